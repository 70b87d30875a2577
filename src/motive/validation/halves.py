"""Random halves of the clips that are trained on: what the linear datamodelling score ranks."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from motive.validation.retraining import Run
from motive.validation.settings import Settings


class Halves(NamedTuple):
    """The halves [M,N], a training on each, and trainings on the first of them with another seed."""

    subsets: Bool[np.ndarray, "M N"]
    once: list[Run]
    again: list[Run]


def plan_halves(clip_ids: list[str], settings: Settings) -> Halves:
    """What to train."""
    subsets = half_subsets(len(clip_ids), settings.num_subsets, settings.seed)
    once = [Run(tuple(np.array(clip_ids)[subset].tolist()), settings.seed) for subset in subsets]
    again = [run._replace(seed=settings.seed + 1) for run in once[: settings.num_repeated]]
    return Halves(subsets, once, again)


def half_subsets(num_clips: int, count: int, seed: int) -> Bool[np.ndarray, "M N"]:
    """Random halves, each clip in or out."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_clips) < num_clips // 2 for _ in range(count)])
