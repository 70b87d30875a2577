"""What the comparison with other attribution libraries makes of a contender's sketches."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from motive.maths.influence import influence
from motive.maths.packing import Storage, pack
from testing.fidelity_measures import measures


def judged(file: Path, exact: np.ndarray, storage: Storage) -> dict[str, float]:
    """What a contender reports, and its fidelity; queries are float32, as Motive keeps them."""
    with safe_open(file, "pt") as stream:
        sketches, found = stream.get_tensor("sketch")[:, None], stream.metadata()
    pool, queries = sketches.split(list(exact.shape))
    ok = torch.ones(len(pool), dtype=torch.bool)
    cosines = influence(pack(pool, storage), pack(queries, "float32"), ok).numpy()
    return {name: float(value) for name, value in found.items()} | measures(exact, cosines)


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Of each way the medians, fidelity over the seeds, and its ratio to ours, taken round by round."""
    numbers: dict[str, float] = {}
    columns = {way: {key: np.array([r[key] for r in rows]) for key in rows[0]} for way, rows in runs.items()}
    for way, column in columns.items():
        numbers |= {f"{key}_{way}": float(np.median(values)) for key, values in column.items()}
        numbers |= {f"spearman_{way}": float(column["spearman"].mean())}
        numbers |= {f"spearman_std_{way}": float(column["spearman"].std())}
        for name, key in (("time", "seconds"), ("memory", "mb")):
            ratio = column[key] / columns["ours"][key]
            spread = {"": np.median(ratio), "_low": ratio.min(), "_high": ratio.max()}
            numbers |= {f"{name}_ratio_{way}{end}": float(value) for end, value in spread.items()}
    return numbers
