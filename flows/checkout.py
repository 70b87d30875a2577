"""The folder as a flow run has it: alone, with its own parameters, without what a killed run left."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect import get_run_logger
from prefect.runtime import flow_run

from flows.commands import STOP
from flows.dead import alive, tell_of_the_dead
from motive.params import Params, load_params

PARAMS = Path("params.yaml")
BEFORE = Path(".motive/params.yaml.before")  # there while a flow run has parameters of its own
LOCK = Path(".motive/checkout.lock")


@contextmanager
def checkout(settings: dict[str, Any]) -> Iterator[Params]:
    """Have the folder alone, with these dotted keys of params.yaml changed; a subflow shares its parent's.

    Other flow runs wait. The system frees the locks of a killed one, so the next knows that it is gone, and
    tells Prefect. params.yaml is as before at the end, or, after a kill, as soon as the next run starts.

    Raises:
        ValueError: params.yaml with these settings is wrong; says which key, and what is allowed.
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
                restore()
            with changed(settings) as params:
                yield params
        finally:
            lock.release()


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
