"""What drift between data versions is looked for in: a few numbers of each pool clip."""

from pathlib import Path

import pandas as pd

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
