"""The numbers of a validation as a file, as tables for people, and as a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

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
    write_png(folder / "validation.png", picture(n))


def picture(n: Numbers) -> np.ndarray:
    """LDS, AUC and precision of each row with their 95 % intervals; the lines are what chance would be."""
    shown = {"lds": ("LDS", 0.0), "corrupted_auc": ("AUC of corrupted copies", 0.5)}
    if "precision_chance" in n:
        shown["precision"] = (f"precision at {n['k']}", n["precision_chance"])
    ends, columns = ("", "_low", "_high"), {}
    for key, (title, chance) in shown.items():
        bars = [Bar(*(n[f"{key}_{name}{end}"] for end in ends)) for name in ROWS]
        columns[title] = (chance, bars)
    return interval_chart(ROWS, columns)


def tables(n: Numbers) -> Iterator[Any]:
    """What `motive validate` prints."""
    from rich.table import Table

    agree = f"two seeds agree by {_spread(n, 'lds_reliability')}"
    sizes = f"{n['num_subsets']} halves of {n['num_candidates']} clips, {n['num_queries']} queries"
    lds = Table("row", "LDS", "over the paper", "", title=f"{sizes}; {agree}")
    for name in ROWS:
        gain = n[f"lds_gain_{name}_low"] > 0, n[f"lds_gain_{name}_high"] < 0
        verdict = {(True, False): "helps", (False, True): "hurts"}.get(gain, "")
        lds.add_row(name, _spread(n, f"lds_{name}"), _spread(n, f"lds_gain_{name}"), verdict)
    yield lds
    corruptions = list(CORRUPTIONS)[1:]
    copies = Table("row", "AUC", *corruptions, title="originals above their corrupted copies")
    for name in ROWS:
        cells = [f"{n[f'corrupted_auc_{corruption}_{name}']:.2f}" for corruption in corruptions]
        copies.add_row(name, _spread(n, f"corrupted_auc_{name}"), *cells)
    yield copies
    if "precision_chance" in n:
        title = f"clips that show the motion, of the best {n['k']}; chance {n['precision_chance']:.2f}"
        truth = Table("row", "precision", "without look-alikes", title=title)
        for name in ROWS:
            truth.add_row(name, *(_spread(n, f"{key}_{name}") for key in ("precision", "precision_clean")))
        yield truth
    title = "change of the motion loss by a removal, in 1e-5; over the paper's in the same way"
    changes = Table("removal", "queries", "over the paper", "held-out", "over the paper", title=title)
    found = [
        key for key in n if key.startswith("removal_") and key.endswith("_queries") and "_gain_" not in key
    ]
    for name in (key.removeprefix("removal_").removesuffix("_queries") for key in found):
        keys = [f"removal{kind}_{name}_{part}" for part in ("queries", "heldout") for kind in ("", "_gain")]
        changes.add_row(name, *(_spread(n, key, 1e5, 1) if key in n else "" for key in keys))
    yield changes


def _spread(n: Numbers, key: str, factor: float = 1.0, digits: int = 2) -> str:
    value, low, high = (f"{factor * n[key + end]:+.{digits}f}" for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
