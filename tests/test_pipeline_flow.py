"""The Prefect flow runs what dvc.yaml says, on a toy project with real git, DVC and Prefect."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.pipeline import StageFailed, dvc, motive_pipeline, stages_in_order

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
    return tmp_path


def test_stages_run_in_order_and_a_second_time_finishes_at_once(toy):
    assert stages_in_order() == ["first", "middle", "last"]
    ran = motive_pipeline(return_state=True)
    assert ran.name == "Completed"
    assert Path("last.txt").read_text() == "motion\nmotion\n"
    assert motive_pipeline(return_state=True).name == "UpToDate"


def test_a_failing_stage_fails_the_flow_and_is_named(toy):
    broken = TOY.replace("cat first.txt first.txt > middle.txt", "echo too dark && exit 3")
    Path("dvc.yaml").write_text(broken)
    failed = motive_pipeline(return_state=True)
    assert failed.is_failed()
    assert "middle" in str(failed.message)
    with pytest.raises(StageFailed, match="too dark"):
        failed.result()
    assert Path("first.txt").exists()
    assert not Path("last.txt").exists()


def test_a_new_stage_appears_by_itself(toy):
    Path("dvc.yaml").write_text(
        TOY + "  after:\n    cmd: cat last.txt > after.txt\n    deps: [last.txt]\n    outs: [after.txt]\n"
    )
    assert stages_in_order() == ["first", "middle", "last", "after"]


def test_whatever_ends_the_caller_ends_the_stage(toy):
    """Ending DVC alone would leave the stage running, and its result would land in the run cache."""
    Path("dvc.yaml").write_text("stages:\n  slow:\n    cmd: echo $$ > pid && seq 2 && sleep 60\n")
    lines = dvc("repro", "slow")
    assert "2" in lines  # read so far
    pid = int(Path("pid").read_text())
    lines.close()  # as an exception, a signal or a cancelled flow run does
    for _ in range(50):
        if not running(pid):
            break
        time.sleep(0.1)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        "Z"
        not in subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    )
