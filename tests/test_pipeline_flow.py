"""The Prefect flow runs what dvc.yaml says, on a toy project with real git, DVC and Prefect."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL
from prefect.states import Running

from flows import dead
from flows.commands import StageFailed
from flows.graph import in_order, read_graph
from flows.pipeline import motive_pipeline
from testing.tiny import ROOT
from testing.toy_pipeline import TOY, gone

pytestmark = [pytest.mark.usefixtures("prefect_api"), pytest.mark.slow]


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
