"""The ranking's table, `data/attribution/ranking.parquet`: a clip's status, and what is read of it."""

from pathlib import Path
from typing import Any

import pandas as pd

from motive.store.files import read_table
from motive.store.layout import stage_folder

OK = "ok"  # it has influence
STILL = "still"  # nothing in it moves: no influence, but it could be trained on
FAILED = "failed"  # a stage could not do it
STATUSES = (OK, STILL, FAILED)

SEGMENT = {"start": "segment_start", "end": "segment_end", "influence": "segment_influence"}


def read_ranking(root: Path = Path()) -> pd.DataFrame:
    """Every pool clip of a project, the best first: `clip_id`, `rank`, `votes`, `influence`, `status`, ...

    Raises:
        ValueError: attribution has not finished, or an earlier version of Motive wrote the table.
    """
    path = stage_folder("attribution", root=root) / "ranking.parquet"
    table = read_table(path)
    if "status" not in table:
        raise ValueError(
            f"{path} is of an earlier version, it has no column `status`: "
            "run `dvc repro --force --single-item attribution`, then go on"
        )
    return table


def ranked(ranking: pd.DataFrame) -> pd.DataFrame:
    """The clips that have influence."""
    return ranking.loc[ranking["status"] == OK]


def trainable(ranking: pd.DataFrame) -> pd.DataFrame:
    """The clips that could be trained on, the best first: still ones too, which influence alone refuses."""
    return ranking.loc[ranking["status"] != FAILED].sort_values("rank")


# ---- the segment of a clip that adds most to its influence; not there if `sketches.segments` is 1


def with_best_segment(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """With `segment_start`, `segment_end` and `segment_influence` of what adds most to each clip."""
    if segments.empty:
        return table
    best = segments.sort_values("influence", kind="stable").groupby("clip_id").tail(1)
    best = best.rename(columns=SEGMENT)[["clip_id", *SEGMENT.values()]]
    return table.merge(best, "left", "clip_id")


def segment_of(row: Any) -> str:
    """Where the segment that adds most to a clip begins and ends; empty if segments are not told apart."""
    if not hasattr(row, "segment_start"):
        return ""
    return f"{row.segment_start:.1f} to {row.segment_end:.1f} s"


def words_of(row: Any) -> str:
    """What stands below a ranked clip: rank, influence, the segment that adds most, caption."""
    segment = segment_of(row)
    if segment:
        return f"rank {row.rank}, {row.influence:+.3f}, most at {segment}\n{row.caption}"
    return f"rank {row.rank}, influence {row.influence:+.3f}\n{row.caption}"
