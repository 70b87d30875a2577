"""The numbers of a validation as a file, as tables for people, and as a chart."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from motive.images.charts import Bar, interval_chart
from motive.images.png import write_png
from motive.store.files import write_json
from motive.validation.corrupted import CORRUPTIONS
from motive.validation.rows import ROWS

Numbers = dict[str, Any]


def write(folder: Path, n: Numbers) -> None:
    """Write validation.json, aside and renamed, and validation.png."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "validation.json", n)
    write_png(folder / "validation.png", chart(n))


def chart(n: Numbers) -> np.ndarray:
    """LDS, AUC and precision of each row with their 95 % intervals; the lines are what chance would be."""

    def bars(key: str) -> Sequence[Bar]:
        return [Bar(*_interval(n, f"{key}_{name}")) for name in ROWS]

    columns = {"LDS": (0.0, bars("lds")), "AUC of corrupted copies": (0.5, bars("corrupted_auc"))}
    if "precision_chance" in n:
        columns[f"precision at {n['k']}"] = (n["precision_chance"], bars("precision"))
    return interval_chart(ROWS, columns)


def tables(n: Numbers) -> Iterator[Table]:
    """What `motive validate` prints: a table for each test."""
    yield _lds_table(n)
    yield _copies_table(n)
    if "precision_chance" in n:
        yield _truth_table(n)
    yield _removal_table(n)


def _lds_table(n: Numbers) -> Table:
    title = (
        f"{n['num_subsets']} halves of {n['num_candidates']} clips, {n['num_queries']} queries; "
        f"two seeds agree by {_spread(n, 'lds_reliability')}"
    )
    table = Table("row", "LDS", "over the paper", "", title=title)
    for name in ROWS:
        verdict = ""
        if n[f"lds_gain_{name}_low"] > 0:
            verdict = "helps"
        elif n[f"lds_gain_{name}_high"] < 0:
            verdict = "hurts"
        table.add_row(name, _spread(n, f"lds_{name}"), _spread(n, f"lds_gain_{name}"), verdict)
    return table


def _copies_table(n: Numbers) -> Table:
    corruptions = list(CORRUPTIONS)[1:]
    table = Table("row", "AUC", *corruptions, title="originals above their corrupted copies")
    for name in ROWS:
        cells = [f"{n[f'corrupted_auc_{corruption}_{name}']:.2f}" for corruption in corruptions]
        table.add_row(name, _spread(n, f"corrupted_auc_{name}"), *cells)
    return table


def _truth_table(n: Numbers) -> Table:
    title = f"clips that show the motion, of the best {n['k']}; chance {n['precision_chance']:.2f}"
    table = Table("row", "precision", "without look-alikes", title=title)
    for name in ROWS:
        table.add_row(name, _spread(n, f"precision_{name}"), _spread(n, f"precision_clean_{name}"))
    return table


def _removal_table(n: Numbers) -> Table:
    title = "change of the motion loss by a removal, in 1e-5; over the paper's in the same way"
    table = Table("removal", "queries", "over the paper", "held-out", "over the paper", title=title)
    for name in re.findall(r"^removal_(?!gain_)(.+)_queries$", "\n".join(n), re.MULTILINE):
        keys = [f"removal{kind}_{name}_{split}" for split in ("queries", "heldout") for kind in ("", "_gain")]
        table.add_row(name, *(_spread(n, key, 1e5, 1) if key in n else "" for key in keys))
    return table


def _interval(n: Numbers, key: str) -> tuple[float, float, float]:
    return n[key], n[f"{key}_low"], n[f"{key}_high"]


def _spread(n: Numbers, key: str, factor: float = 1.0, digits: int = 2) -> str:
    value, low, high = (f"{factor * number:+.{digits}f}" for number in _interval(n, key))
    return f"{value} [{low}, {high}]"
