"""Parquet tables with stable bytes."""

import os
from pathlib import Path

import pandas as pd

WORK = Path(".motive/work")  # what stages have done so far; outside DVC's outputs


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table aside and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_parquet(aside, index=False)
    os.replace(aside, path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        ValueError: there is none: the stage that writes it has not finished.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: the stage that writes it has not finished; run `dvc repro`")
    return pd.read_parquet(path)
