"""Optical flow between adjacent frames: the one place that asks OpenCV for it."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32, UInt8
from torch.nn.functional import avg_pool2d

PRESETS = ("ultrafast", "fast", "medium")
PATCH = 9  # pixels: about what DIS matches at once
UNSEEN = 1.0  # grey levels of 255: a patch that changes less on average changed by its codec alone
SMALL = 256  # shorter sides below this many pixels are tracked at full resolution


def dis(frames: UInt8[np.ndarray, "F H W 3"], preset: str) -> Float32[np.ndarray, "F 2 H W"]:
    """Dense inverse search between adjacent frames: (dx, dy) in pixels from frame f-1 to f; frame 0 is zero.

    Vectors lie where the moving thing was in frame f-1. Frames are RGB.

    Raises:
        ValueError: an unknown preset, or a clip without two frames of at least 16x16.
    """
    if preset not in PRESETS:
        raise ValueError(f"optical_flow.preset is {preset!r}; it is one of {', '.join(PRESETS)}")
    num_frames, height, width, _ = frames.shape
    if num_frames < 2 or min(height, width) < 16:
        raise ValueError(
            f"optical flow needs at least 2 frames of 16x16 and got {num_frames} of {height}x{width}; "
            "raise clips.num_frames, clips.height or clips.width"
        )
    import cv2

    tracker = _tracker(preset, min(height, width))
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    flow = np.zeros((num_frames, 2, height, width), np.float32)
    for f in range(1, num_frames):
        before, after = gray[f - 1], gray[f]
        seen = tracker.calc(before, after, None) * _changed(before, after)[..., None]
        flow[f] = seen.transpose(2, 0, 1)
    return flow


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where the frame changed more than a codec changes it: bool [H,W].

    H.264 refines still, smooth places from frame to frame, and DIS takes that for motion: most static clips
    would not be still. The price is a camera that goes unseen over a smooth wall. Both are measured by
    benchmarks/codec_noise.py.
    """
    import cv2

    difference = cv2.absdiff(before, after).astype(np.float32)
    return cv2.blur(difference, (PATCH, PATCH)) > UNSEEN


def _tracker(preset: str, short_side: int) -> Any:
    """OpenCV's preset; on small frames its halved resolution and sparse patches would lose the objects.

    Measured on textured discs of 7-14 px radius in 64x64: at 3 px a frame `medium` unchanged errs by 1.01,
    so tuned by 0.29; at 5 px 1.92 and 0.51; a pair takes 2.7 ms instead of 0.6.
    """
    import cv2

    tracker = cv2.DISOpticalFlow.create(PRESETS.index(preset))  # OpenCV numbers them in this order
    if short_side < SMALL:
        tracker.setFinestScale(0)
        tracker.setPatchStride(2)
    return tracker


TRACKERS = {"dis": dis}


def keep_on_grid(flow: Float32[np.ndarray, "F 2 H W"], stride: int) -> Float16[torch.Tensor, "F 2 h w"]:
    """Mean vectors of stride x stride cells, still in full-size pixels.

    Raises:
        ValueError: the frame is not a whole number of cells.
    """
    height, width = flow.shape[-2:]
    if stride < 1 or height % stride or width % stride:
        raise ValueError(
            f"optical_flow.stride {stride} does not divide the frame {height}x{width}; "
            "change it, or clips.height and clips.width"
        )
    return avg_pool2d(torch.from_numpy(flow), stride).to(torch.float16)
