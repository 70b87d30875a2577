"""Deals chunks of clips to this process or to several, and shows how far they are."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

Chunk = TypeVar("Chunk")


def deal(
    work: Callable[[Chunk], int], chunks: Iterable[Chunk], num_workers: int, total: int, label: str
) -> None:
    """Call `work(chunk)` for each chunk; it returns the number of clips it did, for the progress bar.

    `work` must be picklable and write its own results; each worker uses one thread, so that the bytes do not
    depend on how many there are. What one worker raises stops the others after their chunk and is raised.
    """
    chunks = list(chunks)
    with tqdm(total=total, desc=label, unit="clip", disable=not chunks) as progress:
        if num_workers == 1 or len(chunks) <= 1:
            _one_thread()
            for chunk in chunks:
                progress.update(work(chunk))
            return
        with ProcessPoolExecutor(min(num_workers, len(chunks)), get_context("spawn"), _start_worker) as pool:
            futures = [pool.submit(work, chunk) for chunk in chunks]
            try:
                for future in as_completed(futures):
                    progress.update(future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _start_worker() -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    _one_thread()


def _end_with_parent() -> None:
    """A killed parent closes no queue: its workers would wait for chunks for ever, and keep their memory."""
    parent = parent_process()
    assert parent is not None, "only a worker is started like this"
    parent.join()
    os._exit(1)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
