"""Dealing chunks: all are done once, an error stops the rest, nobody outlives a killed parent."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from motive.workers import guarded as guarding
from motive.workers.deal import deal
from motive.workers.guarded import Died, guarded

pytestmark = pytest.mark.slow

CHUNKS = [[0, 1, 2], [3], [4, 5]]


def note(chunk: list[int], folder: Path) -> int:
    """Leave a file for each number, which is an error if it is there, with the threads in use."""
    import cv2
    import torch

    for number in chunk:
        with (folder / str(number)).open("x") as file:
            file.write(f"torch {torch.get_num_threads()}, OpenCV {cv2.getNumThreads()}")
    return len(chunk)


def note_or_fail(chunk: list[int], folder: Path) -> int:
    if 3 in chunk:
        raise ValueError("clip 3: its box is empty")
    time.sleep(0.05)
    return note(chunk, folder)


def note_pid_and_wait(_: int, folder: Path) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(60)
    return 1


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_chunk_is_done_once_and_by_one_thread(num_workers: int, tmp_path: Path) -> None:
    deal(partial(note, folder=tmp_path), CHUNKS, num_workers, total=6, label="note")
    done = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert done == dict.fromkeys("012345", "torch 1, OpenCV 1")


def test_no_chunks_start_no_worker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    deal(partial(note, folder=tmp_path), [], 2, total=0, label="note")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_surfaces_and_the_rest_is_not_begun(num_workers: int, tmp_path: Path) -> None:
    chunks = [[3], *([n] for n in range(10, 70))]
    with pytest.raises(ValueError, match="clip 3: its box is empty"):
        deal(partial(note_or_fail, folder=tmp_path), chunks, num_workers, total=61, label="note")
    done = len(list(tmp_path.iterdir()))
    assert done < 60
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == done, "a worker went on"


# ---- guarded


def obey(order: str) -> str:
    """Do what a broken file makes a decoder do."""
    match order.split():
        case ["segfault", *_]:
            ctypes.string_at(0)
        case ["abort", *_]:
            os.abort()
        case ["hang", *_]:
            time.sleep(600)
        case ["eat", *_]:
            try:
                return f"ate {len(np.ones(1 << 30))}"
            except MemoryError:
                return "out of memory"
        case ["raise", *_]:
            raise ValueError("a fault of ours")
    return f"did {order}"


def results(orders: list[str], num_workers: int = 2, seconds: float = 60) -> dict[str, object]:
    return dict(guarded(obey, orders, num_workers, seconds, 2048, "obey"))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_crash_costs_only_its_item(num_workers: int) -> None:
    good = [f"good {number}" for number in range(20)]
    outcomes = results([*good[:7], "segfault", *good[7:], "abort"], num_workers)
    assert outcomes.pop("segfault") == Died("crashed: its process died (signal 11, SIGSEGV)", hung=False)
    assert outcomes.pop("abort") == Died("crashed: its process died (signal 6, SIGABRT)", hung=False)
    assert outcomes == {order: f"did {order}" for order in good}


def test_a_hang_is_cut_off_and_costs_only_its_item() -> None:
    outcomes = results(["good", "hang 1", "hang 2", "better"], seconds=1)
    hung = Died("hung: not done within 1 s", hung=True)
    assert outcomes == {"good": "did good", "hang 1": hung, "hang 2": hung, "better": "did better"}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_what_asks_for_too_much_memory_is_refused_it() -> None:
    assert results(["eat", "good"]) == {"eat": "out of memory", "good": "did good"}


class DiesOnArrival(str):
    """An order that kills the first worker that takes it, before it has said so."""

    def __reduce__(self):
        return die_once, (str(self),)


def die_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.abort()
    return "well"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_worker_that_dies_between_two_items_loses_none(num_workers, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(guarding, "GRACE", 3)
    bad = DiesOnArrival(tmp_path / "marker")
    good = [f"good {number}" for number in range(9)]
    outcomes = results([*good[:5], bad, *good[5:]], num_workers, seconds=1)
    assert outcomes == {bad: "did well"} | {order: f"did {order}" for order in good}


def test_guarded_raises_what_its_work_raises_and_leaves_no_process() -> None:
    with pytest.raises(ValueError, match="a fault of ours"):
        results(["good", "raise", *(f"good {number}" for number in range(99))])
    assert not active_children()


def test_guarded_starts_nothing_for_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert (results([]), active_children(), capfd.readouterr().err) == ({}, [], "")


def hang(_: str, folder: Path) -> int:
    return note_pid_and_wait(0, folder)


# ---- nobody outlives a killed parent


PARENT = """
import sys
from functools import partial
from pathlib import Path
from test_workers import hang, note_pid_and_wait
from motive.workers.deal import deal
from motive.workers.guarded import guarded
if __name__ == "__main__":
    if sys.argv[2] == "deal":
        deal(partial(note_pid_and_wait, folder=Path(sys.argv[1])), [0, 1], 2, total=2, label="wait")
    else:
        list(guarded(partial(hang, folder=Path(sys.argv[1])), "ab", 2, 600, 2048, "wait"))
"""


@pytest.mark.parametrize("way", ["deal", "guarded"])
def test_workers_end_with_a_killed_parent(way: str, tmp_path: Path) -> None:
    script, folder = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    folder.mkdir()
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    parent = subprocess.Popen([sys.executable, script, folder, way], env=env, stderr=subprocess.DEVNULL)
    assert within(30, lambda: len(list(folder.iterdir())) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert within(10, lambda: not any(alive(int(path.name)) for path in folder.iterdir()))


def within(seconds: float, true) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def alive(pid: int) -> bool:
    """Running: a zombie that nobody collects in a container is not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return (
            status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if Path("/proc").is_dir()
            else _answers(pid)
        )
    except FileNotFoundError:
        return False


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
