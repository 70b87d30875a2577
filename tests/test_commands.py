"""Commands that a flow runs: what is told of their failure, and that they end with who runs them."""

import os
import subprocess
import sys
from copy import copy
from pathlib import Path

import pytest

from flows.commands import StageFailed, dvc, run
from testing.servers import wait_until
from testing.tiny import ROOT
from testing.toy_pipeline import gone

pytestmark = pytest.mark.slow


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
