"""Clips to pretrain on, drawn from other seeds of the rendered world, as latents."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyworld.drawing import draw_clip
from toyworld.scenes import training_scene

NUM_FRAMES = 9
FPS = 8.0
SIZE = (64, 64)  # height, width
MAX_TOKENS = 32  # of a caption
WORK = Path(".motive/pretrain")


def draw_training_clips(num_clips: int, seed: int) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Frames u8 [F,H,W,3] and caption of clips for the base model; clip i depends on (seed, i) alone."""
    for i in range(num_clips):
        scene = training_scene(np.random.default_rng([seed, i]))
        yield draw_clip(scene, NUM_FRAMES, FPS).frames, scene.caption


def moving_region(mask: NDArray[np.bool_], flow: NDArray) -> NDArray[np.bool_]:
    """Pixels of an object that moves: mask bool [F,H,W] and flow [F,2,H,W] to bool [F,H,W].

    The region of frame f is what the object covers in f or covered in f-1, if it moved between them;
    frame 0 borrows the region of frame 1.
    """
    before = np.concatenate([mask[:1], mask[:-1]])
    speed = np.hypot(flow[:, 0], flow[:, 1])
    moved = np.array([(speed[f][before[f]] > 0.25).any() for f in range(len(mask))])
    moved[0] = moved[1]
    return (mask | before) & moved[:, None, None]
