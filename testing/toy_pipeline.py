"""A pipeline whose stages are shell commands, for the tests of flows."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.tiny import ROOT

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


@pytest.fixture(scope="module")
def prefect_api() -> Iterator[None]:
    """A Prefect server of a module's own."""
    from prefect.testing.utilities import prefect_test_harness  # loads for seconds

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three stages that follow one another, in a repository of Git and DVC."""
    from flows import pipeline  # loads Prefect, too
    from flows.commands import STOP

    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    Path("source.txt").write_text("motion\n")
    Path("dvc.yaml").write_text(TOY)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    monkeypatch.setattr(pipeline, "run_stage", pipeline.run_stage.with_options(retry_delay_seconds=0))
    STOP.clear()  # set where a flow run ended
    return tmp_path


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
