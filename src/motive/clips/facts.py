"""What is known of a clip beside its motion: what influence should not follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from motive.clips.table import clip_path
from motive.store.files import read_table
from motive.store.shards import read_stacked


def read_facts(clips: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """One row a clip, in the order of the clip table; NaN where a stage has no result for it.

    `duration` s, `fps`, `pixels` and `file_size` bytes of the video as it came, `caption_words`, `motion` and
    `own_motion` px/s, `brightness` in [0,1], `loss` (mean over the noise levels).
    """
    rows: list[Any] = list(clips.itertuples())
    paths = [clip_path(row) for row in rows]
    facts = clips[["duration", "fps"]].astype(float).assign(pixels=clips["height"] * clips["width"])
    facts["file_size"] = [path.stat().st_size if path.is_file() else np.nan for path in paths]
    facts["caption_words"] = clips["caption"].str.split().str.len()
    facts.index = pd.Index(clips["clip_id"])
    stats = folder / "masks/mask_stats.parquet"
    if stats.is_file():
        of_motion = read_table(stats).set_index("clip_id")[["motion", "own_motion", "brightness"]]
        facts = facts.join(of_motion)
    clip_ids, loss = read_stacked(folder / "sketches", "loss")
    return facts.join(pd.Series(loss.mean(1).numpy(), clip_ids, name="loss"))
