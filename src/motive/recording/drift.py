"""How far the clips of one data version are from those of another, in a few numbers of each clip."""

from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import ks_2samp

from motive.store.files import read_table

COLUMNS = {
    "pool/clips/clips.parquet": "duration",
    "pool/masks/mask_stats.parquet": "own_motion",
    "attribution/ranking.parquet": "influence",
}


def read_profile(data: Path) -> pd.DataFrame | None:
    """`clip_id` and the numbers, of the clips that have all; None before there are any."""
    paths = {data / path: column for path, column in COLUMNS.items()}
    if not all(path.is_file() for path in paths):
        return None
    tables = [read_table(path).set_index("clip_id")[column] for path, column in paths.items()]
    return pd.concat(tables, axis=1, join="inner").reset_index()


def distances(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Of each number that both tables have: Kolmogorov and Smirnov's distance, and how likely chance is.

    Args:
        now: a row a clip, `clip_id` and numbers in any unit; missing ones are left out.
        before: the same, of another data version.

    Returns:
        `metric`, a column's name; `distance` in [0, 1], the largest difference of the shares of clips below
        any one value: a tenth of the pool replaced moves it by 0.1 at most; `chance`, the probability of
        such a distance between two draws from the same clips (too high where the versions share clips).
    """
    rows = []
    for name in now:
        if name != "clip_id" and name in before:
            test: Any = ks_2samp(now[name].dropna(), before[name].dropna(), method="asymp")
            rows.append((name, round(float(test.statistic), 6), float(test.pvalue)))
    return pd.DataFrame(rows, columns=["metric", "distance", "chance"])
