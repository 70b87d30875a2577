"""What is known of a clip beside its motion: what influence should not follow."""

from pathlib import Path

import pandas as pd

from motive.store.files import read_table
from motive.store.shards import read_stacked


def read_facts(clips: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """One row a clip, in the order of the clip table; NaN where a stage has no result for it.

    `duration` s, `fps`, `pixels` and `file_size` bytes of the video as it came, `caption_words`, `motion` and
    `own_motion` px/s, `brightness` in [0,1], `loss` (mean over the noise levels).
    """
    facts = clips[["duration", "fps"]].assign(
        pixels=clips["height"] * clips["width"],
        file_size=clips["file_size"],
        caption_words=clips["caption"].str.split().str.len(),
    )
    facts.index = pd.Index(clips["clip_id"])
    stats = folder / "masks/mask_stats.parquet"
    if stats.is_file():
        facts = facts.join(read_table(stats).set_index("clip_id")[["motion", "own_motion", "brightness"]])
    clip_ids, loss = read_stacked(folder / "sketches", "loss")
    return facts.join(pd.Series(loss.mean(1).numpy(), clip_ids, name="loss"))
