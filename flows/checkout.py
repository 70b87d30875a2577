"""The folder as a flow run has it: alone, with its own parameters, without what a killed run left."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import get_client, get_run_logger
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.commands import STOP
from motive.params import Params, load_params

PARAMS = Path("params.yaml")
BEFORE = Path(".motive/params.yaml.before")  # there while a flow run has parameters of its own
LOCK = Path(".motive/checkout.lock")
RUNS = Path(".motive/flow_runs")  # a file for each flow run here, locked while its process lives


@contextmanager
def checkout(settings: dict[str, Any]) -> Iterator[Params]:
    """Have the folder alone, with these dotted keys of params.yaml changed; a subflow shares its parent's.

    Other flow runs wait. The system frees the locks of a killed one, so the next knows that it is gone, and
    tells Prefect. params.yaml is as before at the end, or, after a kill, as soon as the next run starts.

    Raises:
        ValueError: params.yaml with these settings is wrong; says which key, and what is allowed.
    """
    log = get_run_logger()
    RUNS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCK.absolute(), is_singleton=True, thread_local=False)
    outermost = not lock.is_locked
    with _alive(RUNS / str(flow_run.id)):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another flow run is at work in %s: waiting for it to end", Path.cwd())
            lock.acquire()
        try:
            if outermost:
                STOP.clear()
                _tell_of_the_dead(str(flow_run.name))
                restore()
            with changed(settings) as params:
                yield params
        finally:
            lock.release()


@contextmanager
def _alive(place: Path) -> Iterator[None]:
    """Hold a lock on this file, which the system frees with the process; gone where all went well."""
    with FileLock(place.absolute()):
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def _tell_of_the_dead(name: str) -> None:
    """A killed run can't say that it ended: for Prefect it would run for ever."""
    for left in sorted(RUNS.glob("*")):
        try:
            with FileLock(left.absolute(), timeout=0):
                _tell_of(UUID(left.name), name)
                left.unlink()
        except Timeout:  # alive: this run, or one that waits for it
            continue


def _tell_of(run_id: UUID, name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(run_id)
        except ObjectNotFound:  # of another server
            return
        if run.state is not None and not run.state.is_final():
            gone = Crashed(message=f"its process was killed; {name} goes on where it was")
            client.set_flow_run_state(run.id, gone, force=True)
            get_run_logger().warning("%s was killed; going on where it was", run.name)


@contextmanager
def changed(settings: dict[str, Any]) -> Iterator[Params]:
    """params.yaml with some dotted keys changed, its comments kept, and afterwards as it was."""
    if not settings:
        yield load_params(PARAMS)
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    values = yaml.load(PARAMS.read_text())
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[last] = value
    BEFORE.parent.mkdir(exist_ok=True)
    aside = BEFORE.with_suffix(".aside")
    shutil.copyfile(PARAMS, aside)
    os.replace(aside, BEFORE)
    try:
        with PARAMS.open("w") as file:
            yaml.dump(values, file)
        yield load_params(PARAMS)
    finally:
        restore()


def restore() -> None:
    """Undo what a flow run changed in params.yaml."""
    if BEFORE.exists():
        os.replace(BEFORE, PARAMS)
