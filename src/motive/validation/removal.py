"""What becomes of the losses if the best or the worst clips are not trained on, or nothing but the best."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from motive.maths.seeds import seed_of
from motive.validation.retraining import Run
from motive.validation.rows import REFERENCE


class Removal(NamedTuple):
    """One training for each seed, all compared with `against`; `name` is part of a key of validation.json."""

    name: str
    runs: list[Run]
    against: list[Run]
    rival: str = ""  # the removal in the same way by the row that all are compared with


def plan_removals(orders: dict[str, list[str]], fraction: float, seeds: tuple[int, ...]) -> list[Removal]:
    """What to train, by the orders of the same clips (best first), and by a random one for each seed."""
    clip_ids = sorted(next(iter(orders.values())))
    count = round(fraction * len(clip_ids))
    full = [Run(tuple(clip_ids), seed) for seed in seeds]
    removals = [Removal("full", full, [Run((), 0)] * len(seeds))]

    def add(name: str, chosen: Callable[[int], list[str]], rival: str = "") -> None:
        runs = [Run(tuple(sorted(chosen(seed))), seed) for seed in seeds]
        removals.append(Removal(name, runs, full, rival))

    def shuffled(seed: int) -> list[str]:
        return sorted(clip_ids, key=lambda clip_id: seed_of("removal", seed, clip_id))

    add("random_drop", lambda seed: shuffled(seed)[count:])
    add("random_keep", lambda seed: shuffled(seed)[:count])
    for row, order in orders.items():
        rest = len(order) - count
        ways = {"drop_top": order[count:], "drop_bottom": order[:rest], "keep_top": order[:count]}
        for way, chosen in ways.items():
            rival = f"{REFERENCE}_{way}" if row != REFERENCE and REFERENCE in orders else ""
            add(f"{row}_{way}", lambda seed, chosen=chosen: chosen, rival)
    return removals


def changes(removal: Removal, losses: dict[str, Float[np.ndarray, "n"]]) -> Float[np.ndarray, "seeds n"]:
    """How much higher each clip's loss is than without the removal; `losses` of each run, by its name."""
    pairs = zip(removal.runs, removal.against, strict=True)
    return np.stack([losses[run.name] - losses[other.name] for run, other in pairs])
