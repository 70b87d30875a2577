"""Deals single items to processes that may hang, crash or ask for too much memory."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

from motive.workers.parent import end_with_parent

Item = TypeVar("Item")
AHEAD = 4  # items per worker that wait for it: a million futures would be slow to look through
GRACE = 60  # seconds beyond the limit in which a worker must have started, or been killed


class Died(NamedTuple):
    """What `guarded` yields of an item that gave no result: how its worker ended."""

    reason: str
    hung: bool


def guarded(
    work: Callable[[Item], Any],
    items: Iterable[Item],
    num_workers: int,
    seconds: float,
    megabytes: int,
    label: str,
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, `work(item)` or how its worker Died) as they come; nothing that an item does ends the run.

    Each worker has one thread and so much memory at most (Linux only; beyond it `work` sees a MemoryError);
    after so many seconds with an item it is killed. A crash counts if the item crashes a process of its own
    too: the item before it may have broken the memory. What `work` raises is raised.
    """
    left = dict(enumerate(items))
    with tqdm(total=len(left), desc=label, unit="clip", disable=not left) as progress:
        for alone in (False, True):
            for number, result in _pooled(work, list(left.items()), num_workers, seconds, megabytes, alone):
                if alone or not isinstance(result, Died) or result.hung:
                    progress.update()
                    yield left.pop(number), result
    if left:
        raise RuntimeError(f"{label}: the workers die before they read anything")


def _pooled(
    work: Callable[[Item], Any],
    items: list[tuple[int, Item]],
    num_workers: int,
    seconds: float,
    megabytes: int,
    alone: bool,
) -> Iterator[tuple[int, Any]]:
    """Yield (number, result) of these numbered items, or of fewer if the pool breaks."""
    if not items:
        return
    start = partial(_start_reader, megabytes)
    pool = ProcessPool(min(num_workers, len(items)), int(alone), start, context=get_context("spawn"))
    waiting = iter(items)
    running: dict[Future, int] = {}
    try:
        while pool.active:  # until a worker dies between two items
            for number, item in islice(waiting, AHEAD * num_workers - len(running)):
                running[pool.schedule(work, (item,), timeout=seconds)] = number
            if not running:
                return
            done = wait(running, seconds + GRACE, FIRST_COMPLETED).done
            if not done:  # a worker died while it held the lock of the others
                return
            for future in done:
                yield running.pop(future), _result(future, seconds)
    except BrokenProcessPool:
        return
    finally:
        pool.stop()
        pool.join()


def _result(future: Future, seconds: float) -> Any:
    try:
        return future.result()
    except TimeoutError:
        return Died(f"hung: not done within {seconds:g} s", hung=True)
    except ProcessExpired as end:
        code = int(end.exitcode or 0)
        cause = f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Died(f"crashed: its process died ({cause})", hung=False)


def _start_reader(megabytes: int) -> None:
    """As `_start_worker`, but without the seconds that torch takes: a reader needs none of it."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
    Thread(target=end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is a row, no file of gigabytes
