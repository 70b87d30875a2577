"""Files that appear whole or not at all, one writer at a time, and Parquet tables with stable bytes."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
from filelock import FileLock, Timeout

from motive.store.layout import work_folder

log = logging.getLogger("motive")


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A place to write a file; when all of it is there it gets the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{uuid4().hex}")  # process ids of two machines may be equal
    try:
        yield place
        with place.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut leaves the name without the bytes
        os.replace(place, path)
    finally:
        place.unlink(missing_ok=True)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process at a time through: the others wait, and a killed one keeps nobody waiting."""
    work_folder().mkdir(parents=True, exist_ok=True)
    lock = FileLock(work_folder() / f"{name.strip('/').replace('/', '-')}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run is at it; waiting for it to end", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with aside(path) as place:
        place.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON with sorted keys, whole or not at all: the same values give the same bytes."""
    write_text(path, json.dumps(values, indent=1, sort_keys=True) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table, whole or not at all."""
    with aside(path) as place:
        table.to_parquet(place, index=False)


def write_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write torch tensors as safetensors, whole or not at all."""
    from safetensors.torch import save_file  # loads torch, which not every stage needs

    with aside(path) as place:
        place.touch()
        mode = place.stat().st_mode
        save_file(tensors, place, metadata)
        place.chmod(mode)  # save_file lets nobody but the owner read it


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises:
        ValueError: there is none: the stage that writes it has not finished.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: the stage that writes it has not finished; run `dvc repro`")
    return pd.read_parquet(path)
