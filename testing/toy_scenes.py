"""Scenes of the rendered world by their seed."""

import numpy as np

from toyworld import sample_scene

SEEDS = range(3)
FPS = 12
FRAMES = 17


def scene_of(kind: str, seed: int = 0, **wishes):
    """A scene of a kind from a seed."""
    return sample_scene(np.random.default_rng(seed), kind, **wishes)


def centroids(mask: np.ndarray) -> np.ndarray:
    """Mean position [F,2] in px of the object's pixels."""
    return np.array([np.argwhere(frame)[:, ::-1].mean(0) for frame in mask])
