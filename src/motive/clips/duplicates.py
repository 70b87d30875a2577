"""Clips that show the same, `data/PART/clips/duplicates.parquet`, and which of them stay."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import pandas as pd

from motive.clips.table import clips_folder
from motive.store.files import write_table

DUPLICATES = {
    "clip_id": "str",
    "video": "str",
    "start": "float64",  # seconds
    "of": "str",  # the clip_id of the one that stays, or would stay
    "of_video": "str",
    "of_start": "float64",
    "kind": "str",  # exact: the same bytes | near: the same look
    "distance": "float64",  # of the looks, in grey levels
}


class Duplicate(NamedTuple):
    """A piece that shows what another shows, which goes first."""

    row: dict[str, Any]
    of: dict[str, Any]
    kind: Literal["exact", "near"]
    distance: float


def exact_duplicates(rows: Iterable[dict[str, Any]]) -> Iterator[Duplicate]:
    """Yield the pieces of a content that an earlier file has too."""
    first: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        if not row["reason"]:
            of = first.setdefault((row["sha256"], row["start"], row["end"]), row)
            if of is not row:
                yield Duplicate(row, of, "exact", 0.0)


def drop(duplicates: Iterable[Duplicate], how: Literal["keep", "drop_exact", "drop_near"]) -> None:
    """Give the pieces that go a reason. Of one content with one caption only one can stay."""
    for row, of, kind, _ in duplicates:
        goes = {"keep": False, "drop_exact": kind == "exact", "drop_near": True}[how]
        if goes or row["clip_id"] == of["clip_id"]:
            name = {"exact": "duplicate", "near": "near duplicate"}[kind]
            row["reason"] = f"{name} of {of['video']}" + (f" at {of['start']:.2f} s" if of["start"] else "")


def write_duplicates(part: str, duplicates: Iterable[Duplicate]) -> None:
    """Write which clips show the same."""
    found = [
        (
            *(row[name] for name in ("clip_id", "video", "start")),
            *(of[name] for name in ("clip_id", "video", "start")),
            kind,
            distance,
        )
        for row, of, kind, distance in duplicates
    ]
    table = pd.DataFrame(found, columns=list(DUPLICATES)).astype(DUPLICATES)  # type: ignore[arg-type]
    table = table.sort_values(by=["video", "start"]).reset_index(drop=True)
    write_table(clips_folder(part) / "duplicates.parquet", table)
