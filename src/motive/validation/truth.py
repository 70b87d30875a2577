"""What is true of the pool's clips, where their folder says it: truth/labels.jsonl, of the toy world."""

import json
from pathlib import Path

import pandas as pd

from motive.clips.table import clip_path


def add_truth(clips: pd.DataFrame) -> pd.DataFrame:
    """The clips with `shows`, the motion that a clip truly shows, and `alike`: it wears a query's looks.

    `shows` is empty for what is no true example: still, moved by the camera alone, or wrong. Without labels
    it is the clip's own `motion`, and nothing is alike.
    """
    files = [clip_path(row) for row in clips.itertuples()]
    labels: dict[Path, dict] = {}
    for folder in {file.parent for file in files}:
        labels |= _labels(folder)
    motions = zip(files, clips["motion"], strict=True)
    return clips.assign(
        shows=[_shown(labels[file]) if file in labels else motion for file, motion in motions],
        alike=[bool(labels.get(file, {}).get("looks_of_query")) for file in files],
    )


def _shown(label: dict) -> str:
    """A true clip is of the kind of its motion; any other kind is a distractor."""
    return label["motion"] if label["kind"] == label["motion"] else ""


def _labels(folder: Path) -> dict[Path, dict]:
    path = folder / "truth" / "labels.jsonl"
    if not path.is_file():
        return {}
    rows = map(json.loads, path.read_text().splitlines())
    return {folder / row["file_name"]: row for row in rows}
