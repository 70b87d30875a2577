"""The nightly flow: commits are fetched, results pushed, and a lost answer is no failure."""

import subprocess
import sys
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient

from flows import nightly as of_nights
from flows.nightly import UNPUSHED, nightly
from testing.toy_pipeline import TOY
from testing.whole_project import commit

pytestmark = [pytest.mark.usefixtures("prefect_api"), pytest.mark.slow]


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
