"""Runs that are killed, and two at once: no byte differs, and nobody reads half a folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

from motive.store import work
from motive.store.files import alone
from motive.store.recipes import Recipe
from testing.toy_stage import IDS, RECIPE, SIZE, digests, run

pytestmark = [pytest.mark.usefixtures("toy_folder"), pytest.mark.slow]


def test_a_folder_that_is_published_again_is_whole_all_the_time(
    unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may be reading it."""
    run()
    for step in range(10):
        _publish_until(step, monkeypatch)
        assert digests() == unbroken


def test_a_manifest_stands_only_beside_a_whole_folder(
    unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any of its renames and links, publishing leaves no manifest, not even the one before."""
    run(size=5)
    num_steps = 0
    while not _publish_until(num_steps, monkeypatch):
        assert not Path("out/manifest.json").exists()
        num_steps += 1
    assert num_steps == 6, "four shards, the failures, the manifest"
    assert digests() == unbroken


def _publish_until(step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Publish, but die before the given rename or link; whether it got to the end."""
    left = iter(range(step))

    def dying(call):
        def one(source: Path, target: Path) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            call(source, target)

        return one

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(os, "link", dying(os.link))
        try:
            work.publish(RECIPE, IDS, SIZE, Path("out"))
        except KeyboardInterrupt:
            return False
    return True


# ---- killed for real

STAGE = """
import os, signal, sys
from motive.store import work
from testing.toy_stage import IDS, RECIPE, SIZE, do
kill_at = int(sys.argv[1])
for n, chunk in enumerate(work.pending(RECIPE, IDS, SIZE)):
    if n == kill_at:  # the next file is on the disk, but has no name yet
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
    do(chunk)
"""


@pytest.mark.parametrize("kill_at", [0, 2])
def test_a_killed_run_goes_on_where_it_was(kill_at: int, unbroken: dict[str, str]) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", STAGE, str(kill_at)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(RECIPE.store.glob(".*")), "it was killed while it wrote"
    assert sum(map(len, work.pending(RECIPE, IDS, SIZE))) == len(IDS) - kill_at * SIZE
    assert run() == len(IDS) - kill_at * SIZE
    assert digests() == unbroken
    assert json.loads(Path("out/manifest.json").read_text())["num_clips"] == 18


# ---- two at once

ROUNDS = 20


TWIN = """
import sys
import time
from pathlib import Path
from motive.store.recipes import Recipe
from motive.store.shards import read_stacked
from testing import toy_stage
Path(f"ready{sys.argv[1]}").touch()
while not Path("go").exists():
    time.sleep(0.001)  # a process that spins may keep the other from the processor for minutes
for n in range(int(sys.argv[3])):
    toy_stage.RECIPE = Recipe("toy", n)
    toy_stage.run(out=f"{sys.argv[2]}/{n}")
    assert len(read_stacked(Path(f"{sys.argv[2]}/{n}"), "values")[0]) == 18
"""


@pytest.mark.parametrize("outs", [("out", "out"), ("pool", "queries")])
def test_two_runs_at_once_spoil_nothing(outs: tuple[str, str], unbroken: dict[str, str]) -> None:
    """One store, with a damaged chunk, and one folder or two: both runs come through, again and again."""
    for n in range(ROUNDS):
        broken = Recipe("toy", n).store / "0123456789abcdef.safetensors"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"cut off")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    twins = [
        subprocess.Popen([sys.executable, "-c", TWIN, str(n), out, str(ROUNDS)], env=env)
        for n, out in enumerate(outs)
    ]
    while not all(Path(f"ready{n}").exists() for n in range(2)):
        assert all(twin.poll() is None for twin in twins)
        time.sleep(0.01)
    Path("go").touch()
    assert [twin.wait(600) for twin in twins] == [0, 0]
    del unbroken["manifest.json"]  # each round has a recipe of its own
    for folder in (Path(out) / str(n) for out in outs for n in range(ROUNDS)):
        assert digests(folder).items() > unbroken.items()


HOLDER = """
import time
from motive.store.files import alone
with alone("toy pool"):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_second_run_waits_for_the_first_and_for_no_killed_one(caplog: pytest.LogCaptureFixture) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    Timer(0.5, holder.kill).start()
    with caplog.at_level("INFO", "motive"), alone("toy pool"):
        assert holder.wait(5) == -signal.SIGKILL
    holder.stdout.close()
    assert "toy pool: another run is at it; waiting for it to end" in caplog.messages
