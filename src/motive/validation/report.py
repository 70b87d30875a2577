"""The numbers of a validation as a file, as tables for people, and as a picture."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from motive.formats.charts import Bar, interval_chart
from motive.formats.pictures import write_png
from motive.validation.corrupted import CORRUPTIONS
from motive.validation.rows import MEANINGS

Numbers = dict[str, Any]


def write(folder: Path, n: Numbers) -> None:
    """Write validation.json, aside and renamed, and validation.png."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".validation.json.{os.getpid()}"
    aside.write_text(json.dumps(n, indent=1, sort_keys=True) + "\n")
    os.replace(aside, folder / "validation.json")
    write_png(folder / "validation.png", picture(n))


def picture(n: Numbers) -> np.ndarray:
    """LDS, AUC and precision of each row with their 95 % intervals; the lines are what chance would be."""
    shown = {"lds": ("LDS", 0.0), "corrupted_auc": ("AUC of corrupted copies", 0.5)}
    if "precision_chance" in n:
        shown["precision"] = (f"precision at {n['k']}", n["precision_chance"])
    ends, columns = ("", "_low", "_high"), {}
    for key, (title, chance) in shown.items():
        bars = [Bar(*(n[f"{key}_{name}{end}"] for end in ends)) for name in rows_of(n)]
        columns[title] = (chance, bars)
    return interval_chart(rows_of(n), columns)


def rows_of(n: Numbers) -> list[str]:
    """The rows that were compared."""
    return [name for name in MEANINGS if f"lds_{name}" in n]


def tables(n: Numbers) -> Iterator[Any]:
    """What `motive validate` prints."""
    from rich.table import Table

    title = f"LDS: {n['num_subsets']} halves of {n['num_candidates']} clips, {n['num_queries']} queries"
    title += f"; two seeds agree by {_spread(n, 'lds_reliability')}"
    corruptions = list(CORRUPTIONS)[1:]
    truth = {f"precision at {n['k']}": "precision", "no look-alikes": "precision_clean"}
    truth = truth if "precision_chance" in n else {}
    rows = Table("row", "LDS", "over the paper", "AUC", *corruptions, *truth, "what it is", title=title)
    for name in rows_of(n):
        cells = [_spread(n, f"{key}_{name}") for key in ("lds", "lds_gain", "corrupted_auc")]
        cells += [f"{n[f'corrupted_auc_{corruption}_{name}']:.2f}" for corruption in corruptions]
        cells += [f"{n[f'{key}_{name}']:.2f}" for key in truth.values()]
        rows.add_row(name, *cells, MEANINGS[name])
    yield rows
    changes = Table("removal", "queries", "held-out", title="change of the motion loss by it, in 1e-5")
    for key in [key for key in n if key.startswith("removal_") and key.endswith("_queries")]:
        name = key.removeprefix("removal_").removesuffix("_queries")
        cells = (_spread(n, f"removal_{name}_{part}", 1e5, 1) for part in ("queries", "heldout"))
        changes.add_row(name, *cells)
    yield changes


def _spread(n: Numbers, key: str, factor: float = 1.0, digits: int = 2) -> str:
    value, low, high = (f"{factor * n[key + end]:+.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
