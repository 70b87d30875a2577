"""The clip table, `data/PART/clips/clips.parquet`: its columns, its place, and how a clip gets its name."""

from pathlib import Path
from typing import Any

import pandas as pd

from motive.store.files import read_table, write_table
from motive.store.hashes import text_digest

COLUMNS = {
    "clip_id": "str",  # unique, sorted: the row order of everything after it
    "video": "str",  # relative to source
    "source": "str",  # the folder, as params.yaml gives it
    "caption": "str",
    "motion": "str",  # what a query or held-out clip shows; empty where unknown
    "num_frames": "int64",  # of the file as shown, as are height and width
    "height": "int64",
    "width": "int64",
    "fps": "float64",  # mean frame rate
    "duration": "float64",  # seconds
    "start": "float64",  # seconds of the file at which the clip begins
    "end": "float64",  # ... and ends
    "sha256": "str",  # of the file
}
STANDARD = {"num_frames", "fps", "height", "width", "resample"}  # of params: what a clip becomes when read
FAILURES = {"file": "str", "reason": "str"}


def clip_id(sha256: str, caption: str, span: tuple[float, float] | None = None) -> str:
    """The name of a clip: 16 hex digits of what it shows (and which part, in s) and what is said of it."""
    part = f" {span[0] * 1000:.0f}-{span[1] * 1000:.0f}" if span else ""
    return text_digest(f"{sha256}{part}\n{caption}")


def clip_path(row: Any) -> Path:
    """The video file of a row (a Series, or a tuple of `itertuples`)."""
    return Path(row.source) / row.video


def clip_span(row: Any) -> dict[str, Any]:
    """Which part of its file a clip is, as `stream_frames` takes it."""
    return {"start": float(row.start), "end": float(row.end)}


def clips_folder(part: str) -> Path:
    """Where the clip table and the failures of a part lie."""
    return Path("data") / part / "clips"


def read_clips(part: str) -> pd.DataFrame:
    """The usable clips of a part, in row order.

    Raises:
        ValueError: there is no table, or it has other columns.
    """
    path = clips_folder(part) / "clips.parquet"
    table = read_table(path)
    if list(table.columns) != list(COLUMNS):
        found = f"{path} has columns {list(table.columns)}"
        raise ValueError(f"{found}, not {list(COLUMNS)}: run `motive clips {part}`")
    return table


def write_clips(part: str, clips: pd.DataFrame) -> None:
    """Write the usable clips, sorted by `clip_id`."""
    clips = _typed(clips, COLUMNS, by="clip_id")
    assert clips["clip_id"].is_unique, "the same clip twice"
    write_table(clips_folder(part) / "clips.parquet", clips)


def write_failures(part: str, failures: pd.DataFrame) -> None:
    """Write what can't be a clip (`file`, `reason`), sorted."""
    write_table(clips_folder(part) / "failures.parquet", _typed(failures, FAILURES, by=list(FAILURES)))


def _typed(table: pd.DataFrame, columns: dict[str, str], by: str | list[str]) -> pd.DataFrame:
    return table[list(columns)].astype(columns).sort_values(by=by).reset_index(drop=True)  # type: ignore[call-overload]
