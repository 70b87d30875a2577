"""Attributions held against what was measured: the flat numbers of validation.json."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from motive.maths import validity
from motive.maths.statistics import bootstrap_interval, crossed_t_interval, percentile_interval
from motive.maths.validity import Draws, subset_sums
from motive.validation.removal import Removal, changes
from motive.validation.rows import REFERENCE, Attribution
from motive.validation.settings import Settings

Numbers = dict[str, float]


def named(name: str, value: float, bounds: tuple[float, float]) -> Numbers:
    """A number and its 95 % interval."""
    return {name: float(value), f"{name}_low": bounds[0], f"{name}_high": bounds[1]}


class Lds(NamedTuple):
    """A linear datamodelling score, and that of draws of subsets and queries, which all rows share."""

    value: float
    draws: Draws


def lds_numbers(
    pools: dict[str, Attribution],
    subsets: Bool[np.ndarray, "M N"],
    losses: Float[np.ndarray, "M Q"],
    settings: Settings,
    key: str = "lds",
) -> Numbers:
    """LDS of each row, and by how much it beats the paper's, on the same draws of subsets and queries."""
    rows = {name: _lds(subset_sums(a.influence, subsets), losses, settings) for name, a in pools.items()}
    reference = rows[REFERENCE]
    numbers: Numbers = {}
    for name, lds in rows.items():
        gain = percentile_interval(lds.draws - reference.draws)
        numbers |= named(f"{key}_{name}", lds.value, percentile_interval(lds.draws))
        numbers |= named(f"{key}_gain_{name}", lds.value - reference.value, gain)
    return numbers


def reliability_numbers(
    once: Float[np.ndarray, "M Q"], again: Float[np.ndarray, "M Q"], settings: Settings
) -> Numbers:
    """How well the losses on the same subsets agree between two training seeds.

    A perfect prediction of what the seeds have in common correlates with one of them like its square root.
    """
    lds = _lds(once, -again, settings)
    numbers = named("lds_reliability", lds.value, percentile_interval(lds.draws))
    return numbers | {"lds_ceiling": max(0.0, lds.value) ** 0.5}


def _lds(predicted: Float[np.ndarray, "M Q"], losses: Float[np.ndarray, "M Q"], settings: Settings) -> Lds:
    draws = validity.lds_draws(predicted, losses, settings.seed, settings.draws)
    return Lds(validity.lds(predicted, losses), draws)


def removal_numbers(removals: list[Removal], losses: dict[str, dict[str, Float[np.ndarray, "n"]]]) -> Numbers:
    """Change of the mean motion-weighted loss by each removal, on each split (`losses` by split and run).

    `removal_gain`: how much more than by the same removal in the order of the reference, seed by seed.
    """
    numbers: Numbers = {}
    for split, run_losses in losses.items():
        change = {removal.name: changes(removal, run_losses) for removal in removals}
        for removal in removals:
            numbers |= _mean_change(f"removal_{removal.name}_{split}", change[removal.name])
            if removal.row != REFERENCE and removal.rival in change:
                gain = change[removal.name] - change[removal.rival]
                numbers |= _mean_change(f"removal_gain_{removal.name}_{split}", gain)
    return numbers


def _mean_change(name: str, values: Float[np.ndarray, "seeds n"]) -> Numbers:
    return named(name, values.mean(), crossed_t_interval(values))


def corrupted_numbers(
    copies: dict[str, Attribution],
    table: pd.DataFrame,
    counted: Bool[np.ndarray, "n Q"],
    settings: Settings,
    key: str = "corrupted_auc",
) -> Numbers:
    """AUC of each row: mean, and of each corruption; of an original those queries that are `counted`."""
    numbers: Numbers = {}
    for name, attribution in copies.items():
        influence = mean_influence(attribution, table.to_numpy(), counted)
        aucs = validity.corrupted_aucs(influence)
        draws = validity.auc_draws(influence, settings.seed, settings.draws)
        numbers |= named(f"{key}_{name}", aucs.mean(), percentile_interval(draws))
        for corruption, auc in zip(table.columns[1:], aucs, strict=True):
            numbers[f"{key}_{corruption}_{name}"] = float(auc)
    return numbers


def mean_influence(
    attribution: Attribution, places: Int[np.ndarray, "n ways"], counted: Bool[np.ndarray, "n Q"]
) -> Float[np.ndarray, "n ways"]:
    """Mean over the queries that are counted; -inf for a copy that is not ok."""
    influence = np.where(counted[:, None], attribution.influence[places], 0).sum(2)
    mean = influence / counted.sum(1, keepdims=True)
    mean[~attribution.ok[places]] = -np.inf
    return mean


def precision_numbers(
    pools: dict[str, Attribution],
    relevant: Bool[np.ndarray, "N Q"],
    settings: Settings,
    key: str = "precision",
) -> Numbers:
    """Share of each query's k best clips that are relevant, mean over queries."""
    numbers: Numbers = {f"{key}_chance": float(relevant.mean())}
    for name, attribution in pools.items():
        shares = validity.precision_at(settings.k, attribution.ranked(), relevant)
        bounds = bootstrap_interval(shares, settings.seed, settings.draws)
        numbers |= named(f"{key}_{name}", shares.mean(), bounds)
    return numbers
