"""Flow runs killed in this folder: for Prefect they run for ever, and keep their deployment's place."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from motive.store.layout import state_folder

RUNS = state_folder() / "flow_runs"  # a file for each flow run here, locked while its process lives


@contextmanager
def alive(run_id: str) -> Iterator[None]:
    """Hold a lock that the system frees with the process; its file is gone where all went well."""
    RUNS.mkdir(parents=True, exist_ok=True)
    place = (RUNS / run_id).absolute()
    with FileLock(place):
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def tell_of_the_dead() -> list[str]:
    """Tell Prefect which runs have crashed, since they could not; returns their names."""
    names = []
    for left in sorted(RUNS.glob("*")):
        try:
            with FileLock(left.absolute(), timeout=0):
                names += _tell_of(UUID(left.name))
                left.unlink()
        except Timeout:  # alive: this run, or one that waits for it
            continue
    return names


def _tell_of(run_id: UUID) -> list[str]:
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(run_id)
        except ObjectNotFound:  # of another server
            return []
        if run.state is None or run.state.is_final():
            return []
        gone = Crashed(message="its process was killed; the next run goes on where it was")
        client.set_flow_run_state(run.id, gone, force=True)
        return [run.name]
