"""Files that appear whole or not at all, one writer at a time, and Parquet tables with stable bytes."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pandas as pd
from filelock import FileLock, Timeout

log = logging.getLogger("motive")

WORK = Path(".motive/work")  # what stages have done so far; outside DVC's outputs


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A place to write a file; when all of it is there it gets the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{uuid4().hex}")  # process ids of two machines may be equal
    try:
        yield place
        os.replace(place, path)
    finally:
        place.unlink(missing_ok=True)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process at a time through: the others wait, and a killed one keeps nobody waiting."""
    WORK.mkdir(parents=True, exist_ok=True)
    lock = FileLock(WORK / f"{name.strip('/').replace('/', '-')}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run is at it; waiting for it to end", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text aside and rename it."""
    with aside(path) as place:
        place.write_text(text)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table aside and rename it."""
    with aside(path) as place:
        table.to_parquet(place, index=False)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        ValueError: there is none: the stage that writes it has not finished.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: the stage that writes it has not finished; run `dvc repro`")
    return pd.read_parquet(path)
