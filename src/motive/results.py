"""What a finished project has found, read as tables: the ranking, the influence behind it, the subset."""

import json
from pathlib import Path

import pandas as pd
from safetensors import safe_open

from motive.clips.ranking import read_ranking as read_ranking
from motive.store.files import read_table
from motive.store.layout import stage_folder


def read_influence(root: Path = Path()) -> pd.DataFrame:
    """The influence of each pool clip (rows, by clip_id) on each usable query (columns, by clip_id).

    A clip that could not be ranked has NaN.

    Raises:
        ValueError: attribution has not finished.
    """
    path = stage_folder("attribution", root=root) / "influence.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing: attribution has not finished; run `dvc repro`")
    with safe_open(path, "numpy") as file:
        names = json.loads(file.metadata()["motive"])
        table = pd.DataFrame(file.get_tensor("influence"), names["rows"], names["columns"])
        table.loc[~file.get_tensor("ok")] = float("nan")
        return table


def read_subset(root: Path = Path()) -> pd.DataFrame:
    """The clips that fine-tuning is given, the best first: `clip_id`, `rank`, `why`.

    Raises:
        ValueError: curation has not finished.
    """
    return read_table(stage_folder("curation", root=root) / "subset.parquet")
