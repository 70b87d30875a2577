"""Who does the work changes no byte, and a worker that is killed loses the chunk in its hands only."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from motive.store import work
from motive.store.recipes import Recipe
from motive.store.shards import Tensors
from motive.workers.deal import TRIES, deal
from testing.marks import NEEDS_RAY

pytestmark = pytest.mark.slow

WAYS = [(1, ""), (2, ""), (8, ""), pytest.param(2, "local", marks=NEEDS_RAY)]
TWO = [(2, ""), pytest.param(2, "local", marks=NEEDS_RAY)]
RECIPE = Recipe("toy", 1)
IDS = sorted(hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(22))
SIZE = 3


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("begun").mkdir()
    return tmp_path


def sketch(clip_id: str) -> Tensors:
    """A real gradient, whose last bits depend on how many threads add it up."""
    generator = torch.Generator().manual_seed(int(clip_id, 16) % 2**31)
    weight = torch.randn(64, 64, generator=generator, requires_grad=True)
    x = torch.randn(4096, 64, generator=generator)
    torch.nn.functional.gelu(x @ weight).square().mean().backward()
    assert weight.grad is not None
    return {"sketch": weight.grad.sum(0), "ok": torch.tensor(True)}


def do(ids: list[str], fatal: str = "", times: int = 0) -> int:
    """Sketch a chunk and keep it; the fatal clip kills its worker so many times."""
    (Path("begun") / f"{ids[0]}.{os.getpid()}.{time.monotonic_ns()}").touch()
    clips = {}
    for clip_id in ids:
        if clip_id == fatal and len(list(Path("begun").glob(f"{ids[0]}.*"))) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        clips[clip_id] = sketch(clip_id)
    work.write_chunk(RECIPE, clips, {})
    return len(ids)


def run(num_workers: int, ray: str, out: str = "out", **options) -> dict[str, str]:
    """A whole stage; the digests of what it publishes."""
    chunks = work.pending(RECIPE, IDS, SIZE)
    deal(partial(do, **options), chunks, num_workers, len(IDS), "toy", ray=ray)
    work.publish(RECIPE, IDS, SIZE, Path(out))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(out).iterdir()}


def begun() -> Counter[str]:
    """How often each chunk was begun; the counting starts again."""
    counts = Counter(path.name.split(".")[0] for path in Path("begun").iterdir())
    for path in Path("begun").iterdir():
        path.unlink()
    return counts


def forget() -> None:
    for path in RECIPE.store.iterdir():
        path.unlink()


@pytest.fixture
def alone(project: Path) -> dict[str, str]:
    """What one process publishes; the store is empty again."""
    digests = run(1, "", out="alone")
    forget()
    begun()
    return digests


@pytest.mark.parametrize(("num_workers", "ray"), WAYS)
def test_who_does_the_work_changes_no_byte(num_workers: int, ray: str, alone: dict[str, str]) -> None:
    assert run(num_workers, ray) == alone
    assert set(begun().values()) == {1}


@pytest.mark.parametrize(("num_workers", "ray"), TWO)
def test_a_killed_worker_costs_the_chunk_in_its_hands_only(
    num_workers: int, ray: str, alone: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(num_workers, ray, fatal=IDS[7], times=TRIES - 1) == alone
    assert begun() == {IDS[n]: TRIES if n == 6 else 1 for n in range(0, len(IDS), SIZE)}
    warnings = [message for message in caplog.messages if "a worker died" in message]
    assert len(warnings) == TRIES - 1
    assert IDS[7] in warnings[0]


@pytest.mark.parametrize(("num_workers", "ray"), TWO)
def test_a_chunk_that_kills_its_workers_stops_the_run_and_the_next_goes_on(
    num_workers: int, ray: str, alone: dict[str, str]
) -> None:
    with pytest.raises(
        ValueError, match=rf"toy: workers died {TRIES} times at .*{IDS[7]}.*the next run goes"
    ):
        run(num_workers, ray, fatal=IDS[7], times=99)
    assert begun()[IDS[6]] == TRIES
    left = len(work.pending(RECIPE, IDS, SIZE))
    assert left < len(IDS) / SIZE, "what the other worker did is kept"
    assert run(num_workers, ray) == alone
    assert sum(begun().values()) == left


def test_workers_killed_from_outside_lose_nothing(alone: dict[str, str]) -> None:
    """As the kernel does when memory runs out: at any moment, with a chunk or between two."""
    script = "import test_many_workers as t; t.run(2, '')"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    Path("stage.py").write_text(f"if __name__ == '__main__':\n    {script}\n")
    stage = subprocess.Popen([sys.executable, "stage.py"], env=env, stderr=subprocess.DEVNULL)
    killed: set[int] = set()
    most = TRIES - 1  # all of them may hit the same chunk
    while stage.poll() is None and len(killed) < most:
        for pid in {int(path.name.split(".")[1]) for path in Path("begun").iterdir()} - killed:
            if len(killed) < most:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.01)
    assert len(killed) == most
    assert stage.wait(60) == 0
    assert run(1, "") == alone
    assert sum(begun().values()) <= len(alone) + most


def die_when_idle(chunk: int, folder: Path) -> int:
    """The second chunk kills the worker that has done the first and waits, then its own."""
    mark = folder / f"{chunk}.{os.getpid()}"
    others = [int(path.name.split(".")[1]) for path in folder.glob("0.*")]
    mark.touch()
    if chunk == 1 and len(list(folder.glob("1.*"))) == 1:
        while not others:
            others = [int(path.name.split(".")[1]) for path in folder.glob("0.*")]
        time.sleep(1)
        os.kill(others[0], signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def test_a_worker_killed_while_it_waits_is_replaced_too(project: Path) -> None:
    deal(partial(die_when_idle, folder=project / "begun"), [0, 1], 2, total=2, label="idle")
    assert begun() == {"0": 1, "1": 2}


def note_gpu(chunk: int, folder: Path) -> int:
    (folder / f"{chunk}.{os.environ.get('CUDA_VISIBLE_DEVICES')}.{os.getpid()}").touch()
    time.sleep(0.5)
    return 1


@pytest.mark.parametrize(("device", "gpus"), [("cuda", {"3", "5"}), ("cuda:1", {"3,5"})])
def test_each_process_sees_one_gpu_if_any_will_do(
    device: str, gpus: set[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    deal(partial(note_gpu, folder=project / "begun"), range(6), 2, total=6, label="gpu", device=device)
    seen = {tuple(path.name.split(".")[1:]) for path in (project / "begun").iterdir()}
    assert {gpu for gpu, _ in seen} == gpus
    assert len(seen) == 2, "a worker keeps its GPU"
