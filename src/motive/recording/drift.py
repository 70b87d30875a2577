"""How far the clips of one data version are from those of another."""

from typing import Any

import pandas as pd
from scipy.stats import ks_2samp


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
    columns = [name for name in now if name != "clip_id" and name in before]
    rows = []
    for name in columns:
        found: Any = ks_2samp(now[name].dropna(), before[name].dropna(), method="asymp")
        rows.append((name, round(float(found.statistic), 6), float(found.pvalue)))
    return pd.DataFrame(rows, columns=["metric", "distance", "chance"])
