"""Deals chunks of clips to this process, to several, or to a Ray cluster, and shows how far they are."""

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from threading import Thread
from typing import Any, TypeVar

from tqdm import tqdm

from motive.errors import TryAgain
from motive.workers.parent import end_with_parent
from motive.workers.ray import RayWorker, WorkerDied, connected

log = logging.getLogger("motive")
Chunk = TypeVar("Chunk")
TRIES = 3  # deaths of a chunk's worker, from which on it is the chunk's fault


def deal(
    work: Callable[[Chunk], int],
    chunks: Iterable[Chunk],
    num_workers: int,
    total: int,
    label: str,
    device: str = "cpu",
    ray: str = "",
) -> None:
    """Call `work(chunk)` for each chunk; it returns the number of clips it did, for the progress bar.

    `work` must be picklable and write its own results; each worker uses one thread, so that the bytes do not
    depend on how many there are, and for device `cuda` a GPU of its own where there are several. `ray` is
    empty for processes of this machine, else see `workers.ray.connected`. What one worker raises stops
    the others after their chunk and is raised; the chunk of a worker that dies is given to a new one.

    Raises:
        TryAgain: the workers of a chunk died TRIES times.
    """
    chunks = list(chunks)
    with tqdm(total=total, desc=label, unit="clip", disable=not chunks) as progress:
        if not chunks or (not ray and (num_workers == 1 or len(chunks) == 1)):
            _one_thread()
            counts = map(work, chunks)
        else:
            counts = _hired(work, chunks, min(num_workers, len(chunks)), label, device, ray)
        for count in counts:
            progress.update(count)


def _hired(
    work: Callable[[Chunk], int], chunks: list[Chunk], num_workers: int, label: str, device: str, ray: str
) -> Iterator[int]:
    """Yield what `work` returns in workers of this machine, or of Ray."""
    here = nullcontext(partial(Process, gpus=_visible_gpus(device)))
    with connected(ray, num_workers, device) if ray else here as hire:
        yield from _dealt(work, chunks, num_workers, hire, label)


def _dealt(
    work: Callable[[Chunk], int],
    chunks: list[Chunk],
    num_workers: int,
    hire: "Callable[[int], Process | RayWorker]",
    label: str,
) -> Iterator[int]:
    """Yield what `work` returns, as it comes. A worker holds no chunk before it has said that it runs."""
    waiting = deque(range(len(chunks)))
    left = len(chunks)
    deaths = Counter()
    workers = {slot: hire(slot) for slot in range(num_workers)}
    running: dict[Future, tuple[int, int | None]] = {
        worker.submit(_one_thread, None): (slot, None) for slot, worker in workers.items()
    }
    idle: list[int] = []
    try:
        while left:
            while idle and waiting:
                slot = idle.pop()
                job = waiting.popleft()
                running[workers[slot].submit(work, chunks[job])] = slot, job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, job = running.pop(future)
                try:
                    result = workers[slot].result(future)
                except WorkerDied as death:
                    deaths[job] += 1
                    _tell(death, deaths[job], None if job is None else chunks[job], label)
                    workers[slot].stop()
                    workers[slot] = hire(slot)
                    running[workers[slot].submit(_one_thread, None)] = slot, None
                    waiting.extendleft([] if job is None else [job])
                    continue
                deaths[job] = 0
                idle.append(slot)
                if job is not None:
                    left -= 1
                    yield result
    except Exception:
        wait([future for future, (_, job) in running.items() if job is not None])
        raise
    finally:
        for worker in workers.values():
            worker.stop()


def _tell(death: WorkerDied, count: int, chunk: Any, label: str) -> None:
    what = "before it had a chunk" if chunk is None else f"at {chunk!r:.200}"
    if count < TRIES:
        log.warning("%s: a worker died %s (%s); another takes its place", label, what, death)
        return
    raise TryAgain(
        f"{label}: workers died {count} times {what} ({death}). Out of memory? Use fewer `workers`. What is "
        "done is kept: the next run goes on there"
    )


class Process:
    """A process of this machine in a pool of its own: who is killed holds no lock that others wait for."""

    def __init__(self, slot: int, gpus: list[str]):
        gpu = gpus[slot % len(gpus)] if gpus else None
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), _start_worker, (gpu,))

    def submit(self, work: Callable[[Any], int], chunk: Any) -> Future:
        try:
            return self.pool.submit(work, chunk)
        except BrokenProcessPool as death:  # it died while it had nothing to do
            future = Future()
            future.set_exception(death)
            return future

    def result(self, future: Future) -> int:
        """What the work returned or raised.

        Raises:
            WorkerDied: the process ended first.
        """
        try:
            return future.result()
        except BrokenProcessPool:
            raise WorkerDied("its process was killed, or crashed") from None

    def stop(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def _visible_gpus(device: str) -> list[str]:
    """The GPUs to share out, as CUDA_VISIBLE_DEVICES names them; none if the device is one, or the CPU."""
    if device != "cuda":
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(gpu) for gpu in range(torch.cuda.device_count())]


def _start_worker(gpu: str | None) -> None:
    Thread(target=end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it when it is first used


def _one_thread(_: None = None) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    return 0
