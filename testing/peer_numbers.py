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
        sketches = stream.get_tensor("sketch")[:, None]
        costs = {name: float(value) for name, value in stream.metadata().items()}
    pool, queries = sketches.split(list(exact.shape))
    ok = torch.ones(len(pool), dtype=torch.bool)
    cosines = influence(pack(pool, storage), pack(queries, "float32"), ok).numpy()
    return costs | measures(exact, cosines)


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Of each way the medians, fidelity over the seeds, and its ratio to ours, taken round by round."""
    numbers: dict[str, float] = {}
    ours = _columns(runs["ours"])
    for way, rows in runs.items():
        columns = _columns(rows)
        for key, values in columns.items():
            numbers[f"{key}_{way}"] = float(np.median(values))
        numbers[f"spearman_{way}"] = float(columns["spearman"].mean())
        numbers[f"spearman_std_{way}"] = float(columns["spearman"].std())
        numbers |= _ratios(f"time_ratio_{way}", columns["seconds"] / ours["seconds"])
        numbers |= _ratios(f"memory_ratio_{way}", columns["mb"] / ours["mb"])
    return numbers


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _ratios(name: str, values: np.ndarray) -> dict[str, float]:
    ends = {f"{name}_low": float(values.min()), f"{name}_high": float(values.max())}
    return {name: float(np.median(values))} | ends
