"""The best and worst clips of each motion, as one image."""

from typing import Any

import numpy as np
import pandas as pd

from motive.clips.ranking import words_of
from motive.clips.table import clip_path, clip_span
from motive.images.sheets import Strip, clip_strip, strip_sheet
from motive.params import Clips

NUM_SHOWN = 3  # best and worst clips of a motion
NUM_MOTIONS = 20
HEADS = ["a query"]
HEADS += [f"best {n}" for n in range(1, NUM_SHOWN + 1)]
HEADS += [f"worst {n}" for n in range(NUM_SHOWN, 0, -1)]


def best_and_worst_sheet(
    table: pd.DataFrame, pool: pd.DataFrame, queries: pd.DataFrame, clips: Clips
) -> np.ndarray:
    """Per motion a row: a query, the best and the worst clips as short strips; RGB u8 [H,W,3].

    Args:
        table: `motion`, `clip_id`, `rank` and `influence`, the best of a motion first, the worst last.
        pool: the clip table that its rows are from.
        queries: the clip table of the queries; the first of a motion is shown.
        clips: how clips are read.
    """
    table = table.merge(pool.drop(columns="motion"), on="clip_id")
    rows = []
    for motion, of_motion in list(table.groupby("motion"))[:NUM_MOTIONS]:
        query = queries[queries["motion"] == motion].iloc[0]
        strips = [_strip(query, query.caption, clips)]
        strips += [_strip(row, words_of(row), clips) for row in _best_and_worst(of_motion)]
        rows.append((str(motion) or "(no motion named)", strips))
    return strip_sheet(HEADS, rows)


def _strip(row: Any, words: str, clips: Clips) -> Strip:
    return Strip(clip_strip(clip_path(row), clip_span(row), clips), words)


def _best_and_worst(of_motion: pd.DataFrame) -> list[Any]:
    """Rows of the first and the last clips, none of them twice."""
    best = of_motion.head(NUM_SHOWN)
    worst = of_motion.iloc[NUM_SHOWN:].tail(NUM_SHOWN)
    return [*best.itertuples(), *worst.itertuples()]
