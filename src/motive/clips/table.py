"""The clip table and the failures, `data/SPLIT/clips/{clips,failures}.parquet`; how a clip gets its name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from motive.errors import FailureKind
from motive.store.files import read_table, write_table
from motive.store.hashes import text_digest
from motive.store.layout import ROOT, stage_folder

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
    "file_size": "int64",  # bytes
}
FAILURES = {
    "file": "str",  # relative to source, or a row of its metadata
    "kind": "str",  # one of errors.FAILURE_KINDS
    "reason": "str",  # in words, for people
}
# Keys of params.yaml's `clips` that decide which frames are read of a clip, and their size.
FRAME_KEYS = {"num_frames", "fps", "height", "width", "resample"}


class Failure(NamedTuple):
    """A file, or a row of metadata, that can't be a clip."""

    file: str
    kind: FailureKind
    reason: str


# ---- one clip


def clip_id(sha256: str, caption: str, span: tuple[float, float] | None = None) -> str:
    """The name of a clip: 16 hex digits of what it shows (and which seconds of it) and of its caption."""
    milliseconds = f" {span[0] * 1000:.0f}-{span[1] * 1000:.0f}" if span else ""
    return text_digest(f"{sha256}{milliseconds}\n{caption}")


def clip_path(row: Any, root: Path = ROOT) -> Path:
    """The video file of a row (a Series, or a tuple of `itertuples`) of a project."""
    return root / row.source / row.video


def clip_span(row: Any) -> dict[str, Any]:
    """Which seconds of its file a clip is, as `stream_frames` takes them."""
    return {"start": float(row.start), "end": float(row.end)}


# ---- the tables


def read_clips(split: str, root: Path = ROOT) -> pd.DataFrame:
    """The usable clips of a split, in row order.

    Raises:
        ValueError: there is no table, or an earlier version of Motive wrote it.
    """
    return _read("clips.parquet", COLUMNS, split, root)


def read_failures(split: str, root: Path = ROOT) -> pd.DataFrame:
    """What can't be a clip, a row each: `file`, `kind`, `reason`.

    Raises:
        ValueError: there is no table, or an earlier version of Motive wrote it.
    """
    return _read("failures.parquet", FAILURES, split, root)


def _read(name: str, columns: dict[str, str], split: str, root: Path) -> pd.DataFrame:
    path = stage_folder("clips", split, root) / name
    table = read_table(path)
    if list(table.columns) != list(columns):
        raise ValueError(
            f"{path} is of an earlier version of motive: it has columns {list(table.columns)}, not "
            f"{list(columns)}. Delete {path.parent} and run "
            f"`dvc repro --force --single-item clips@{split}`, then go on"
        )
    return table


def write_clips(split: str, clips: pd.DataFrame) -> None:
    """Write the usable clips, sorted by `clip_id`."""
    assert clips["clip_id"].is_unique, "the same clip twice"
    write_sorted(stage_folder("clips", split) / "clips.parquet", clips, COLUMNS, by=["clip_id"])


def write_failures(split: str, failures: Iterable[Failure]) -> None:
    """Write what can't be a clip, sorted."""
    path = stage_folder("clips", split) / "failures.parquet"
    write_sorted(path, list(failures), FAILURES, by=list(FAILURES))


def write_sorted(path: Path, rows: Any, columns: dict[str, str], by: list[str]) -> None:
    """Write rows (a table, or a list of tuples or mappings) as a table of these columns and dtypes."""
    table = pd.DataFrame(rows, columns=list(columns)).astype(columns)  # type: ignore[arg-type]
    write_table(path, table.sort_values(by=by).reset_index(drop=True))
