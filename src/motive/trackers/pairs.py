"""Trackers made of a function of two frames: between adjacent frames, or chained from frame 0.

A frame is what that function takes: grey or RGB. One comes, one `FlowStep` goes: memory does not grow.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch.nn.functional import grid_sample

# A step and the way back agree if |step + back|^2 <= RELATIVE (|step|^2 + |back|^2) + ABSOLUTE
# (Sundaram, Brox, Keutzer 2010).
RELATIVE = 0.01
ABSOLUTE = 0.5  # square pixels

Map = Float32[np.ndarray, "H W"]
Vectors = Float32[np.ndarray, "2 H W"]
Lost = Bool[np.ndarray, "H W"]
Frame = UInt8[np.ndarray, "H W *colours"]
Pair = Callable[[Frame, Frame], tuple[Vectors, np.ndarray]]  # flow, and confidence or seen [H,W]


class FlowStep(NamedTuple):
    """Where the things of the reference frame are in this one.

    `flow`: (dx, dy) in pixels, lying where things were in the reference frame; zero in frame 0.
    `confidence` in [0,1]: 0 where nothing could be seen.
    """

    flow: Vectors
    confidence: Map


def adjacent(pair: Pair, frames: Iterable[Frame], check: bool) -> Iterator[FlowStep]:
    """Each frame from the one before; `check` takes confidence where the way back does not return."""
    before = None
    for frame in frames:
        yield _start(frame) if before is None else _step(pair, before, frame, check)
        before = frame


def chained(pair: Pair, frames: Iterable[Frame]) -> Iterator[FlowStep]:
    """Each frame from frame 0, by steps between adjacent frames.

    A point that leaves the frame, or whose step does not return, is lost: from then on its confidence is 0
    and its displacement what it was. Else its confidence is the least of its steps'.
    """
    frames = iter(frames)
    before = next(frames, None)
    if before is None:
        return
    chain = _start(before)
    lost = np.zeros(before.shape[:2], bool)
    yield chain
    for after in frames:
        chain, lost = _lengthened(chain, lost, pair, before, after)
        yield chain
        before = after


def _lengthened(
    chain: FlowStep, lost: Lost, pair: Pair, before: Frame, after: Frame
) -> tuple[FlowStep, Lost]:
    """A chain from frame 0 to `before`, and what it has lost, by one step more."""
    places = _places(lost.shape) + chain.flow
    forward, seen = pair(before, after)
    step = _sample(forward, places)
    lost = lost | ~_returns(step, places, pair(after, before)[0])
    confidence = np.minimum(chain.confidence, _sample(seen.astype(np.float32)[None], places)[0])
    return FlowStep(np.where(lost, chain.flow, chain.flow + step), confidence * ~lost), lost


def _start(frame: Frame) -> FlowStep:
    size = frame.shape[:2]
    return FlowStep(np.zeros((2, *size), np.float32), np.ones(size, np.float32))


def _step(pair: Pair, before: Frame, after: Frame, check: bool) -> FlowStep:
    flow, seen = pair(before, after)
    if check:
        seen = seen * _returns(flow, _places(seen.shape), pair(after, before)[0])
    return FlowStep(flow, seen.astype(np.float32, copy=False))


def _returns(step: Vectors, places: Vectors, backward: Vectors) -> Bool[np.ndarray, "H W"]:
    """Whether a step from these places ends inside the frame and `backward` leads back from there."""
    x, y = ends = places + step
    height, width = x.shape
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    back = _sample(backward, ends)
    gap = ((step + back) ** 2).sum(0)
    length = (step**2 + back**2).sum(0)
    return inside & (gap <= RELATIVE * length + ABSOLUTE)


def _places(size: tuple[int, ...]) -> Vectors:
    """(x, y) of every pixel."""
    return np.indices(size, np.float32)[::-1]


def _sample(values: Float32[np.ndarray, "C H W"], places: Vectors) -> Float32[np.ndarray, "C H W"]:
    """Bilinear; beyond the frame its edge."""
    height, width = values.shape[1:]
    x = places[0] / (width - 1) * 2 - 1
    y = places[1] / (height - 1) * 2 - 1
    grid = torch.from_numpy(np.stack([x, y], -1))[None]
    pixels = torch.from_numpy(np.ascontiguousarray(values))[None]
    return grid_sample(pixels, grid, padding_mode="border", align_corners=True)[0].numpy()
