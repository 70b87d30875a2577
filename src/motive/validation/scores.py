"""Attributions held against what was measured: the flat numbers of validation.json."""

from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from motive.maths import validity
from motive.maths.statistics import bootstrap_interval, crossed_t_interval, percentile_interval
from motive.maths.validity import subset_sums
from motive.validation.corrupted import CORRUPTIONS
from motive.validation.removal import Removal, changes
from motive.validation.rows import REFERENCE, Attribution
from motive.validation.settings import Settings

Numbers = dict[str, float]


def named(name: str, value: float, bounds: tuple[float, float]) -> Numbers:
    """A number and its 95 % interval."""
    return {name: value, f"{name}_low": bounds[0], f"{name}_high": bounds[1]}


def lds_numbers(
    pools: dict[str, Attribution],
    subsets: Bool[np.ndarray, "M N"],
    losses: Float[np.ndarray, "M Q"],
    settings: Settings,
    key: str = "lds",
) -> Numbers:
    """LDS of each row, and by how much it beats the paper's, on the same draws of subsets and queries."""
    numbers, draws = {}, {}
    for name, pool in pools.items():
        predicted = subset_sums(pool.influence, subsets)
        numbers[f"{key}_{name}"] = validity.lds(predicted, losses)
        draws[name] = validity.lds_draws(predicted, losses, settings.seed, settings.draws)
    for name, drawn in draws.items():
        value = numbers[f"{key}_{name}"]
        numbers |= named(f"{key}_{name}", value, percentile_interval(drawn))
        gain = value - numbers[f"{key}_{REFERENCE}"]
        numbers |= named(f"{key}_gain_{name}", gain, percentile_interval(drawn - draws[REFERENCE]))
    return numbers


def reliability_numbers(
    once: Float[np.ndarray, "M Q"], again: Float[np.ndarray, "M Q"], settings: Settings
) -> Numbers:
    """How well the losses on the same subsets agree between two training seeds.

    A perfect prediction of what the seeds have in common correlates with one of them like its square root.
    """
    value = validity.lds(once, -again)
    drawn = validity.lds_draws(once, -again, settings.seed, settings.draws)
    return named("lds_reliability", value, percentile_interval(drawn)) | {
        "lds_ceiling": max(0.0, value) ** 0.5
    }


def corrupted_numbers(
    copies: dict[str, Attribution],
    table: pd.DataFrame,
    asked: Bool[np.ndarray, "n Q"],
    settings: Settings,
    key: str = "corrupted_auc",
) -> Numbers:
    """AUC of each row's mean over the queries that an original is `asked` for: mean, each corruption."""
    numbers = {}
    for name, attribution in copies.items():
        influence = np.where(asked[:, None], attribution.influence[table.to_numpy()], 0).sum(2)
        scores = influence / asked.sum(1, keepdims=True)
        scores[~attribution.ok[table.to_numpy()]] = -np.inf
        aucs = validity.corrupted_aucs(scores)
        drawn = validity.auc_draws(scores, settings.seed, settings.draws)
        numbers |= named(f"{key}_{name}", float(aucs.mean()), percentile_interval(drawn))
        each = zip(list(CORRUPTIONS)[1:], aucs, strict=True)
        numbers |= {f"{key}_{corruption}_{name}": float(value) for corruption, value in each}
    return numbers


def precision_numbers(
    pools: dict[str, Attribution], pool: pd.DataFrame, motions: list[str], settings: Settings
) -> Numbers:
    """Share of each query's k best that truly show its motion; `clean`: of a pool without look-alikes."""
    relevant = pool["shows"].to_numpy()[:, None] == np.array(motions)
    numbers: Numbers = {}
    for (name, attribution), clean in product(pools.items(), (False, True)):
        rows = ~pool["alike"].to_numpy(bool) if clean else np.ones(len(pool), bool)
        shares = validity.precision_at(settings.k, attribution.ranked()[rows], relevant[rows])
        key = f"precision_clean_{name}" if clean else f"precision_{name}"
        numbers |= named(key, float(shares.mean()), bootstrap_interval(shares, settings.seed, settings.draws))
        numbers["precision_clean_chance" if clean else "precision_chance"] = float(relevant[rows].mean())
    return numbers


def removal_numbers(removals: list[Removal], losses: dict[str, dict[str, Float[np.ndarray, "n"]]]) -> Numbers:
    """Change of the mean motion-weighted loss by each removal, on each part (`losses` by part and run).

    `removal_gain`: how much more than by the same removal in the order of the reference, seed by seed.
    """
    numbers = {}
    for part, of_part in losses.items():
        found = {removal.name: changes(removal, of_part) for removal in removals}
        gains = {r.name: found[r.name] - found[r.rival] for r in removals if r.rival}
        for key, each in (("removal", found), ("removal_gain", gains)):
            for name, change in each.items():
                value = float(change.mean())
                numbers |= named(f"{key}_{name}_{part}", value, crossed_t_interval(change))
    return numbers
