"""The folder as a flow run has it: alone, and rid of what a killed run left in Prefect."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import get_run_logger
from prefect.runtime import flow_run

from flows.commands import STOP
from flows.dead import alive, tell_of_the_dead
from motive.store.layout import state_folder

LOCK = state_folder() / "checkout.lock"


@contextmanager
def checkout() -> Iterator[None]:
    """Have the folder alone; a subflow shares its parent's.

    Other flow runs wait. The system frees the locks of a killed one, so the next knows that it is gone, and
    tells Prefect.
    """
    log = get_run_logger()
    lock = FileLock(LOCK.absolute(), is_singleton=True, thread_local=False)
    outermost = not lock.is_locked
    with alive(str(flow_run.id)):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another flow run is at work in %s: waiting for it to end", Path.cwd())
            lock.acquire()
        try:
            if outermost:
                STOP.clear()
                for name in tell_of_the_dead():
                    log.warning("%s was killed; going on where it was", name)
            yield
        finally:
            lock.release()
