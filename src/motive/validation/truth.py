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
    labels = {path: label for folder in {file.parent for file in files} for path, label in _labels(folder)}
    known = [labels.get(str(file), {}) for file in files]
    shows = [_shown(label) if label else motion for label, motion in zip(known, clips["motion"], strict=True)]
    return clips.assign(shows=shows, alike=[bool(label.get("looks_of_query")) for label in known])


def _shown(label: dict) -> str:
    """A true clip is of the kind of its motion; any other kind is a distractor."""
    return label["motion"] if label["kind"] == label["motion"] else ""


def _labels(folder: Path) -> list[tuple[str, dict]]:
    path = folder / "truth" / "labels.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [(str(folder / row["file_name"]), row) for row in rows]
