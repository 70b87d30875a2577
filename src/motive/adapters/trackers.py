"""Optical flow of a stream of frames, by one of several trackers behind one small interface.

A tracker takes RGB frames one by one and yields one `Tracked` for each: memory does not grow with the clip.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn.functional import avg_pool2d

from motive.adapters.dis import Dis

SMALLEST = 16  # pixels of a side
_NEEDS = f"optical flow needs at least 2 frames of {SMALLEST}x{SMALLEST}"

Frame = UInt8[np.ndarray, "H W 3"]


class Tracked(NamedTuple):
    """Where the things of the reference frame are in this one.

    `flow`: (dx, dy) in pixels, lying where things were in the reference frame; zero in frame 0.
    `confidence` in [0,1]: 0 where nothing could be seen.
    """

    flow: Float32[np.ndarray, "2 H W"]
    confidence: Float32[np.ndarray, "H W"]


Tracker = Callable[[Iterable[Frame]], Iterator[Tracked]]


def load_tracker(settings: dict[str, Any]) -> Tracker:
    """The tracker that the section `optical_flow` of params.yaml names.

    Raises:
        ValueError: an unknown one, or wrong settings.
    """
    if settings["tracker"] != "dis":
        raise ValueError(f"optical_flow.tracker is {settings['tracker']!r}; it is one of dis")
    return adjacent_dis(settings["preset"])


def adjacent_dis(preset: str) -> Tracker:
    """DIS from each frame to the next.

    The tracker raises ValueError for a clip without two frames of at least 16x16.
    """
    import cv2

    pair = Dis(preset)

    def track(frames: Iterable[Frame]) -> Iterator[Tracked]:
        before, count = None, 0
        for frame in frames:
            count, size = count + 1, frame.shape[:2]
            if min(size) < SMALLEST:
                raise ValueError(f"{_NEEDS} and got {size[0]}x{size[1]}: raise clips.height and clips.width")
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if before is None:
                yield Tracked(np.zeros((2, *size), np.float32), np.ones(size, np.float32))
            else:
                flow, seen = pair(before, grey)
                yield Tracked(flow, seen.astype(np.float32))
            before = grey
        if count < 2:
            raise ValueError(f"{_NEEDS} and got {count} frame: raise clips.num_frames")

    return track


def dis(frames: UInt8[np.ndarray, "F H W 3"], preset: str) -> Float32[np.ndarray, "F 2 H W"]:
    """All of `adjacent_dis`'s vectors of one clip.

    Raises:
        ValueError: as it.
    """
    return np.stack([tracked.flow for tracked in adjacent_dis(preset)(frames)])


def keep_on_grid(values: Float32[np.ndarray, "*any H W"], stride: int) -> Float32[torch.Tensor, "*any h w"]:
    """Means over stride x stride cells; vectors stay in full-size pixels.

    Raises:
        ValueError: the frame is not a whole number of cells.
    """
    height, width = values.shape[-2:]
    if stride < 1 or height % stride or width % stride:
        raise ValueError(
            f"optical_flow.stride {stride} does not divide the frame {height}x{width}; "
            "change it, or clips.height and clips.width"
        )
    pixels = torch.from_numpy(values)
    return avg_pool2d(pixels.reshape(-1, 1, height, width), stride).reshape(
        *values.shape[:-2], height // stride, -1
    )
