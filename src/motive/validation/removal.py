"""What becomes of the losses if the best or the worst clips are not trained on, or nothing but the best."""

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from motive.maths.seeds import seed_of
from motive.validation.retraining import Run
from motive.validation.rows import REFERENCE


class Removal(NamedTuple):
    """One training for each seed, all compared with `against`."""

    row: str  # whose order decides; `random`; `full`: nothing is removed
    way: str
    runs: list[Run]
    against: list[Run]

    @property
    def name(self) -> str:
        """Stands in the keys of validation.json."""
        return f"{self.row}_{self.way}" if self.way else self.row

    @property
    def rival(self) -> str:
        """The name of the removal in the same way by the row that all are compared with."""
        return f"{REFERENCE}_{self.way}"


def plan_removals(orders: dict[str, list[str]], fraction: float, seeds: tuple[int, ...]) -> list[Removal]:
    """What to train, by the orders of the same clips (best first), and by a random one for each seed."""
    clip_ids = sorted(next(iter(orders.values())))
    full = [Run(tuple(clip_ids), seed) for seed in seeds]
    removals = [Removal("full", "", full, [Run((), 0)] * len(seeds))]
    for (row, way), kept in kept_clips(orders, round(fraction * len(clip_ids)), seeds).items():
        runs = [Run(tuple(sorted(ids)), seed) for ids, seed in zip(kept, seeds, strict=True)]
        removals.append(Removal(row, way, runs, full))
    return removals


def kept_clips(
    orders: dict[str, list[str]], count: int, seeds: tuple[int, ...]
) -> dict[tuple[str, str], list[list[str]]]:
    """Of each row and way, what is left to train on when `count` clips are dropped or kept, for each seed."""
    clip_ids = next(iter(orders.values()))
    shuffled = [sorted(clip_ids, key=partial(seed_of, "removal", seed)) for seed in seeds]
    kept = {
        ("random", "drop"): [order[count:] for order in shuffled],
        ("random", "keep"): [order[:count] for order in shuffled],
    }
    for row, order in orders.items():
        kept[row, "drop_top"] = [order[count:]] * len(seeds)
        kept[row, "drop_bottom"] = [order[: len(order) - count]] * len(seeds)
        kept[row, "keep_top"] = [order[:count]] * len(seeds)
    return kept


def runs_of(removals: list[Removal]) -> list[Run]:
    """All that they compare, each once."""
    return list(dict.fromkeys(run for r in removals for run in (*r.runs, *r.against)))


def changes(removal: Removal, losses: dict[str, Float[np.ndarray, "n"]]) -> Float[np.ndarray, "seeds n"]:
    """How much higher each clip's loss is than without the removal; `losses` of each run, by its name."""
    pairs = zip(removal.runs, removal.against, strict=True)
    return np.stack([losses[run.name] - losses[other.name] for run, other in pairs])
