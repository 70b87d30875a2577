"""Motion metrics of a video that need no trained weights.

Read them together: smoothness alone rewards stillness. `dynamic_degree_dis`, `flickering` and
`motion_smoothness_blend` have VBench's definitions (Huang et al. 2024), but optical flow is by DIS and
interpolation by blending where VBench has trained networks: the numbers are not VBench's.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, UInt8

MOVING = 0.05  # of the shorter side a second: a slower pixel stands still
MOTION_METRICS = (
    "dynamic_degree_dis",
    "motion_smoothness_blend",
    "flickering",
    "moving_fraction",
    "mean_motion",
)

Frames = UInt8[np.ndarray, "F H W 3"]
Flow = Float32[np.ndarray, "F 2 H W"]


def motion_metrics(
    frames: UInt8[np.ndarray, "F H W 3"], fps: float, tracker: Callable[[Frames], Flow]
) -> dict[str, float]:
    """All of `MOTION_METRICS` of one video; `tracker` gives the optical flow between adjacent frames."""
    flow = tracker(frames)
    thinned = frames[:: dynamic_step(fps)]
    return {
        "dynamic_degree_dis": float(len(thinned) > 1 and is_dynamic(tracker(thinned))),
        "motion_smoothness_blend": motion_smoothness_blend(frames),
        "flickering": flickering(frames),
        "moving_fraction": moving_fraction(flow, fps),
        "mean_motion": mean_motion(flow, fps),
    }


def dynamic_step(fps: float) -> int:
    """VBench judges every so many frames: about 8 a second."""
    return max(1, round(fps / 8))


def is_dynamic(flow: Float32[np.ndarray, "F 2 H W"]) -> bool:
    """Whether the fastest 5 % of pixels move over 6 px (of 256) in 4 of 16 frames; flow[0] is no pair."""
    num_frames, _, height, width = flow.shape
    speed = np.sort(np.hypot(flow[1:, 0], flow[1:, 1]).reshape(num_frames - 1, -1), axis=1)
    fastest = speed[:, -max(1, int(0.05 * height * width)) :].mean(axis=1)
    pairs = int((fastest > 6 * min(height, width) / 256).sum())
    return pairs >= max(1, round(4 * num_frames / 16))


def motion_smoothness_blend(frames: UInt8[np.ndarray, "F H W 3"]) -> float:
    """How well each odd frame is the mean of its neighbours: (255 - mean |difference|) / 255."""
    triples = zip(frames[:-2:2], frames[1:-1:2], frames[2::2], strict=True)
    errors = [_distance((before.astype(np.float32) + after) / 2, odd) for before, odd, after in triples]
    return 1 - float(np.mean(errors)) / 255 if errors else 1.0


def flickering(frames: UInt8[np.ndarray, "F H W 3"]) -> float:
    """(255 - mean |difference| of adjacent frames) / 255: 1 is a still."""
    changes = [_distance(a, b) for a, b in pairwise(frames)]
    return 1 - float(np.mean(changes)) / 255 if changes else 1.0


def moving_fraction(flow: Float32[np.ndarray, "F 2 H W"], fps: float) -> float:
    """Share of pixels faster than `MOVING`, over all pairs of frames."""
    return float((_speed(flow, fps) > MOVING * min(flow.shape[2:])).mean()) if len(flow) > 1 else 0.0


def mean_motion(flow: Float32[np.ndarray, "F 2 H W"], fps: float) -> float:
    """Mean speed of all pixels, in pixels a second."""
    return float(_speed(flow, fps).mean()) if len(flow) > 1 else 0.0


def _speed(flow: np.ndarray, fps: float) -> np.ndarray:
    return np.hypot(flow[1:, 0], flow[1:, 1]) * fps


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float32) - b).mean(dtype=np.float64))
