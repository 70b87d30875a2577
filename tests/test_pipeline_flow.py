"""The Prefect flow runs what dvc.yaml says, on a toy project with real git, DVC and Prefect."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from flows import dead, pipeline
from flows import nightly as of_nights
from flows.commands import STOP, StageFailed, dvc, run
from flows.graph import in_order, read_graph
from flows.nightly import UNPUSHED, nightly
from flows.pipeline import motive_pipeline
from flows.tasks import signature
from motive.params import Params, load_params
from motive.stages import share_work
from testing.servers import wait_until
from testing.tiny import ROOT
from testing.whole_project import commit

TOY = """
stages:
  last:
    cmd: cat middle.txt > last.txt
    deps: [middle.txt]
    outs: [last.txt]
  middle:
    cmd: cat first.txt first.txt > middle.txt
    deps: [first.txt]
    outs: [middle.txt]
  first:
    cmd: cat source.txt > first.txt
    deps: [source.txt]
    outs: [first.txt]
"""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    Path("source.txt").write_text("motion\n")
    Path("dvc.yaml").write_text(TOY)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    monkeypatch.setattr(pipeline, "run_stage", pipeline.run_stage.with_options(retry_delay_seconds=0))
    STOP.clear()  # set where a flow run ended
    return tmp_path


def stages_in_order() -> list[str]:
    return in_order(read_graph())


def test_stages_run_in_order_and_a_second_time_finishes_at_once(toy):
    assert stages_in_order() == ["first", "middle", "last"]
    ran = motive_pipeline(return_state=True)
    assert ran.name == "Completed"
    assert Path("last.txt").read_text() == "motion\nmotion\n"
    assert motive_pipeline(return_state=True).name == "UpToDate"


def test_a_failing_stage_fails_the_flow_and_is_named(toy):
    broken = TOY.replace("cat first.txt first.txt > middle.txt", "printf . >> tries; echo too dark; exit 1")
    Path("dvc.yaml").write_text(broken)
    failed = motive_pipeline(return_state=True)
    assert failed.is_failed()
    assert "middle" in str(failed.message)
    assert len(Path("tries").read_text()) == 1, "trying again mends no mistake"
    with pytest.raises(StageFailed) as failure:
        failed.result()
    assert failure.value.stage == "middle"
    assert failure.value.command == "dvc repro --single-item middle"
    assert "too dark" in failure.value.text
    assert not failure.value.may_pass
    assert Path("first.txt").exists()
    assert not Path("last.txt").exists()


def test_a_failure_is_whole_in_a_copy():
    failure = copy(StageFailed("dvc push", "no room", "masks@pool", may_pass=True))
    assert (failure.command, failure.text, failure.stage) == ("dvc push", "no room", "masks@pool")
    assert failure.may_pass
    assert str(failure) == "masks@pool: `dvc push` failed:\nno room"


def test_a_failure_is_told_from_its_error_on_however_long():
    script = "seq 1000 1050; echo error: dark; seq 100 150; exit 1"
    with pytest.raises(StageFailed) as failed:
        list(run(["sh", "-c", script], 1, {}))
    assert failed.value.command == f"sh -c {script}"
    assert failed.value.text.splitlines() == ["error: dark", *map(str, range(100, 151))]
    with pytest.raises(StageFailed) as failed:
        list(run(["sh", "-c", "seq 100 150; exit 1"], 1, {}))
    assert failed.value.text.splitlines() == [*map(str, range(131, 151))]


def test_what_may_pass_is_tried_again(toy):
    """75 is what `motive` exits with where a worker, a lock or a server was the trouble."""
    shaky = "printf . >> tries; test $(wc -c < tries) -gt 2 || exit 75; cat first.txt first.txt > middle.txt"
    Path("dvc.yaml").write_text(TOY.replace("cat first.txt first.txt > middle.txt", shaky))
    assert motive_pipeline(return_state=True).is_completed()
    assert len(Path("tries").read_text()) == 3


def test_stages_that_need_not_wait_run_side_by_side(toy):
    """Each waits for the other to begin: one after the other they would wait for ever."""
    wait = "touch {0}.began; until test -e {1}.began; do sleep 0.1; done; touch {0}.txt"
    stages = "".join(
        f"  {one}:\n    cmd: {wait.format(one, other)}\n    outs: [{one}.txt]\n"
        for one, other in (("left", "right"), ("right", "left"))
    )
    Path("dvc.yaml").write_text("stages:\n" + stages)
    assert motive_pipeline(side_by_side=2, stage_hours=0.05, return_state=True).is_completed()


def test_a_stage_that_takes_too_long_is_stopped(toy):
    Path("dvc.yaml").write_text("stages:\n  slow:\n    cmd: echo $$ > pid && sleep 60\n")
    failed = motive_pipeline(stage_hours=0.001, return_state=True)
    with pytest.raises(StageFailed, match=r"(?s)slow.*took longer than 0\.001 hours: raise .*stage_hours"):
        failed.result()
    assert gone(int(Path("pid").read_text()))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"queries": "nowhere"}, "queries is 'nowhere': there is no such folder"),
        ({"model": "no"}, "model is 'no'"),
    ],
)
def test_a_folder_that_is_not_there_is_told_before_anything_runs(toy, chosen, message):
    with pytest.raises(ValueError, match=message):
        motive_pipeline(**chosen)
    assert not Path("first.txt").exists()


@pytest.fixture
def chosen(toy) -> Path:
    """A toy whose first stage reads a parameter that flows choose, and whose source nobody keeps."""
    text = TOY.replace("cat source.txt >", "cat source.txt params.yaml >")
    text = text.replace("deps: [source.txt]", "deps: [source.txt, loose]\n    params: [curation, clips]")
    Path("dvc.yaml").write_text(text)
    Path(".gitignore").write_text("/first.txt\n/middle.txt\n/last.txt\n/.motive\n/loose\n")
    Path("loose").mkdir()
    Path("loose/clip.txt").write_text("a clip")
    commit(toy)
    return toy


def seen(name: str) -> Params:
    """The parameters with which an experiment's first stage ran."""
    out = Path(f"{name}.yaml")
    list(dvc("get", ".", "first.txt", "--rev", name, "--out", str(out)))  # the lines are of no interest
    out.write_text(out.read_text().removeprefix("motion\n"))
    return load_params(out)


def test_what_a_run_chooses_reaches_dvc_and_changes_nothing_here(chosen):
    assert motive_pipeline(return_state=True).is_completed()
    mine = Path("params.yaml").read_text() + "# a note that is not committed\n"
    Path("params.yaml").write_text(mine)
    here = Path("last.txt").read_text()
    lock = Path("dvc.lock").read_text()
    queries = chosen / "a folder's, = clips"
    queries.mkdir()
    state = motive_pipeline(
        strategy="random", fraction=0.25, seed=3, queries=queries.name, experiment="mine", return_state=True
    )
    assert state.is_completed(), state.message
    assert state.message == "3 stages are up to date, 3 of them ran"
    params = seen("mine")
    assert (params.curation.strategy, params.curation.fraction, params.curation.seed) == ("random", 0.25, 3)
    assert params.clips.source["queries"] == queries.name
    assert Path("params.yaml").read_text() == mine
    assert Path("last.txt").read_text() == here
    assert Path("dvc.lock").read_text() == lock


def test_an_experiment_is_replaced_by_the_next_of_its_name(chosen):
    for seed in (1, 2):
        assert motive_pipeline(seed=seed, experiment="mine", return_state=True).is_completed()
    assert [*dvc("exp", "list", "--name-only")] == ["mine"]
    assert seen("mine").curation.seed == 2


def test_a_failing_stage_of_an_experiment_is_named(chosen):
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("cat middle.txt >", "echo too dark; exit 1; cat middle.txt >"))
    before = Path("params.yaml").read_bytes()
    failed = motive_pipeline(strategy="random", return_state=True)
    with pytest.raises(StageFailed) as failure:
        failed.result()
    assert failure.value.stage == "last"
    assert "too dark" in failure.value.text
    assert Path("params.yaml").read_bytes() == before
    assert not Path("first.txt").exists()


def test_a_copy_of_the_project_goes_on_with_the_projects_work(tmp_path, monkeypatch):
    twin = tmp_path / ".dvc/tmp/exps/standalone/one"
    twin.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for folder in (twin, tmp_path, twin):
        monkeypatch.chdir(folder)
        share_work()
    (twin / ".motive/half-done").touch()
    assert (tmp_path / ".motive/half-done").exists()
    assert not (tmp_path / ".motive").is_symlink()


def test_a_run_that_was_killed_is_told_to_prefect_by_the_next(toy):
    """Its process is gone and can't say so: Prefect would believe for ever that it runs."""
    with get_client(sync_client=True) as client:
        killed = client.create_flow_run(motive_pipeline, state=Running())
        (toy / dead.RUNS).mkdir(parents=True)
        (toy / dead.RUNS / str(killed.id)).touch()
        (toy / dead.RUNS / str(uuid4())).touch()  # of a server that is no more
        assert motive_pipeline(return_state=True).is_completed()
        assert client.read_flow_run(killed.id).state_name == "Crashed"
    assert not list((toy / dead.RUNS).iterdir())


def test_a_worker_without_a_server_says_what_to_do():
    env = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    command = [sys.executable, "-m", "flows.ready"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Prefect server answers at http://127.0.0.1:1/api")
    assert "`make server`" in done.stderr


def test_a_new_stage_appears_by_itself(toy):
    Path("dvc.yaml").write_text(
        TOY + "  after:\n    cmd: cat last.txt > after.txt\n    deps: [last.txt]\n    outs: [after.txt]\n"
    )
    assert stages_in_order() == ["first", "middle", "last", "after"]
    assert motive_pipeline(return_state=True).is_completed()
    assert Path("after.txt").read_text() == "motion\nmotion\n"


def test_whatever_ends_the_caller_ends_the_stage(toy):
    """Ending DVC alone would leave the stage running, and its result would land in the run cache."""
    Path("dvc.yaml").write_text("stages:\n  slow:\n    cmd: echo $$ > pid && seq 2 && sleep 60\n")
    lines = dvc("repro", "slow")
    assert "2" in lines  # read so far
    pid = int(Path("pid").read_text())
    lines.close()  # as an exception, a signal or a cancelled flow run does
    assert gone(pid)


def test_whoever_kills_the_caller_kills_the_stage(toy):
    """SIGKILL leaves nobody a chance to say anything; the stage would run on without a holder."""
    Path("dvc.yaml").write_text("stages:\n  slow:\n    cmd: echo $$ > pid && sleep 60\n")
    caller = "from flows.commands import dvc\nfor line in dvc('repro', 'slow'): pass"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    holder = subprocess.Popen([sys.executable, "-c", caller], env=env)
    wait_until(lambda: Path("pid").exists() and Path("pid").read_text().strip(), 60, "the stage runs")
    holder.kill()
    holder.wait()
    assert gone(int(Path("pid").read_text()))


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(100):
        if not running(pid):
            return True
        time.sleep(0.1)
    return False


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        "Z"
        not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    )


def test_an_experiment_is_kept_where_git_knows_nobody(toy, monkeypatch):
    commit(toy)
    for name, value in {"HOME": str(toy), "XDG_CONFIG_HOME": str(toy), "GIT_CONFIG_NOSYSTEM": "1"}.items():
        monkeypatch.setenv(name, value)
    motive_pipeline(experiment="mine")
    assert [*dvc("exp", "list", "--name-only")] == ["mine"]
    subprocess.run(["git", "config", "user.email", "user@example.com"], check=True)
    assert signature() == {}


# ---- every night


@pytest.fixture
def upstream(toy, tmp_path_factory) -> Path:
    """Another checkout, from which the toy gets its commits."""
    other = tmp_path_factory.mktemp("upstream") / "other"
    Path(".gitignore").write_text("/first.txt\n/middle.txt\n/last.txt\n/.motive\n")
    commit(toy)
    subprocess.run(["git", "clone", "--quiet", toy, other], check=True)
    subprocess.run(["git", "remote", "add", "-f", "origin", other], check=True)
    subprocess.run(["git", "remote", "set-head", "origin", "--auto"], check=True)
    subprocess.run(["git", "branch", "--quiet", "--set-upstream-to", "origin/HEAD"], check=True)
    return other


def commit_elsewhere(upstream: Path, source: str) -> None:
    (upstream / "source.txt").write_text(source)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=upstream, check=True)
    commit(upstream)


def test_commits_of_others_are_fetched_even_where_both_have_run(toy, upstream):
    """Both wrote dvc.lock: first where ours was never committed, then where ours was changed."""
    assert nightly(push=False, return_state=True).name == "Completed"
    for source in ("from elsewhere\n", "and again\n"):
        commit_elsewhere(upstream, source)
        state = nightly(git_pull=True, push=False, return_state=True)
        assert state.name == "Completed", state.message
        assert Path("last.txt").read_text() == source * 2
        with Path("dvc.lock").open("a") as lock:
            lock.write("# ours\n")


def test_a_night_whose_answers_are_lost_completes_all_the_same(toy, monkeypatch):
    """A client that waits in vain for the answer of the server tells it the same again."""
    request = SyncPrefectClient.request

    def asked_twice(client, method, path, *args, **kwargs):
        if path.endswith("/set_state"):
            request(client, method, path, *args, **kwargs)
        return request(client, method, path, *args, **kwargs)

    monkeypatch.setattr(SyncPrefectClient, "request", asked_twice)
    assert nightly(push=False, return_state=True).message == "new data version"
    Path("dvc.yaml").write_text(TOY.replace("cat middle.txt", "exit 1; cat middle.txt"))
    failed = nightly(push=False, return_state=True)
    assert failed.is_failed()
    assert "last" in str(failed.message)


def test_what_could_not_be_pushed_is_pushed_the_next_time(toy, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(of_nights._over_the_network, "retries", 0)
    remote = tmp_path_factory.mktemp("remote") / "store"
    remote.write_text("no folder")
    subprocess.run([sys.executable, "-m", "dvc", "remote", "add", "-d", "store", remote], check=True)
    assert nightly(return_state=True).is_failed()
    with get_client(sync_client=True) as client:
        artifact = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "failure"}).json()
    assert "## dvc push --run-cache failed" in artifact["data"]
    remote.unlink()
    again = nightly(return_state=True)
    assert (again.name, again.message) == ("UpToDate", "nothing changed, pushed")
    assert len([*remote.rglob("*")]) > 3
    assert not UNPUSHED.exists()
    assert nightly(return_state=True).message == "nothing changed"


# ---- deployments


def test_what_is_paused_in_prefect_stays_paused_after_the_next_deploy(toy):
    shutil.copytree(ROOT / "flows", "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", "prefect.yaml")
    env = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "MOTIVE_PROJECT": str(toy)}
    env["PYTHONPATH"] = f"{toy}{os.pathsep}{ROOT / 'src'}"

    def deploy() -> DeploymentResponse:
        for module in ("flows.ready", "flows.deploy"):
            subprocess.run([sys.executable, "-m", module], env=env, check=True)
        return client.read_deployment_by_name("nightly/nightly")

    with get_client(sync_client=True) as client:
        first = deploy()
        assert [schedule.active for schedule in first.schedules] == [True]
        client.update_deployment_schedule(first.id, first.schedules[0].id, active=False)
        assert [schedule.active for schedule in deploy().schedules] == [False]
        text = Path("prefect.yaml").read_text()
        Path("prefect.yaml").write_text(text.replace("0 2 * * *", "0 3 * * *"))
        moved = deploy()
        assert [schedule.active for schedule in moved.schedules] == [False]
        client.update_deployment_schedule(first.id, moved.schedules[0].id, active=True)
        assert [schedule.active for schedule in deploy().schedules] == [True]
