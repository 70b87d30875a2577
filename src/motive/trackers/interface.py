"""Optical flow of a stream of frames, by one of several trackers behind one small interface.

The three of ours, and what `register_tracker` or another package's entry point names.
A tracker takes RGB frames one by one and yields one `FlowStep` for each: memory does not grow with the clip.
Only AllTracker from frame 0 holds the clip. DIS takes grey frames too.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from motive.extensions import Extension, extension, register
from motive.params import TRACKERS, tracker_names
from motive.trackers import alltracker, networks
from motive.trackers.alltracker import AllTracker
from motive.trackers.dis import Dis
from motive.trackers.pairs import FlowStep, Pair, adjacent, chained
from motive.trackers.raft import Raft
from motive.video.frames import to_grey

SMALLEST = 16  # pixels of a side
_NEEDS = f"optical flow needs at least 2 frames of {SMALLEST}x{SMALLEST}"

Frame = UInt8[np.ndarray, "H W *colours"]
Tracker = Callable[[Iterable[Frame]], Iterator[FlowStep]]
# (file of its weights or "", device) -> optical flow of two RGB frames. If that has a method `follow` as
# AllTracker has, it is asked for the whole clip from frame 0; else its steps are chained.
MakePair = Callable[[str, str], Pair]


def load_tracker(settings: dict[str, Any]) -> Tracker:
    """The tracker that the section `optical_flow` of params.yaml describes.

    The tracker raises ValueError for a clip without two frames of at least 16x16.

    Raises:
        ValueError: an unknown one, wrong settings, or weights or code that can't be loaded.
    """
    pair = _load_pair(settings)
    if settings["reference"] == "adjacent":
        follow = partial(adjacent, pair, check=settings["check"])
    else:
        follow = getattr(pair, "follow", partial(chained, pair))

    def tracker(frames: Iterable[Frame]) -> Iterator[FlowStep]:
        frames = _checked(frames)
        return follow(map(to_grey, frames) if isinstance(pair, Dis) else frames)

    return tracker


def fingerprint(settings: dict[str, Any]) -> dict[str, str]:
    """name -> digest of the files that decide what this tracker finds; none for dis.

    Of another package's also its version.

    Raises:
        ValueError: a file is missing.
    """
    digests = {}
    foreign = _foreign(settings["tracker"])
    if foreign:
        digests["tracker"] = foreign.origin
    if settings["tracker"] != "dis" and not (foreign and not settings["weights"]):
        digests["weights"] = networks.digest(networks.find_weights(settings["weights"]))
    if settings["tracker"] == "alltracker":
        digests["repository"] = networks.digest(*alltracker.code(settings["repository"]))
    return digests


def dis(frames: UInt8[np.ndarray, "F H W 3"], preset: str) -> Float32[np.ndarray, "F 2 H W"]:
    """All vectors of one clip by DIS between adjacent frames.

    Raises:
        ValueError: as `load_tracker` and its tracker.
    """
    tracker = load_tracker({"tracker": "dis", "preset": preset, "reference": "adjacent", "check": False})
    return np.stack([step.flow for step in tracker(frames)])


def register_tracker(name: str, make: MakePair, version: str) -> None:
    """Let `optical_flow.tracker` be this name in this process; worker processes know entry points only.

    `version` stands in recipes: raise it when what the tracker finds changes.

    Raises:
        ValueError: the name is one of ours.
    """
    register("motive.trackers", name, make, version, TRACKERS)


def _foreign(name: str) -> Extension | None:
    return None if name in TRACKERS else extension("motive.trackers", name)


def _load_pair(settings: dict[str, Any]) -> Pair:
    match settings["tracker"]:
        case "dis":
            return Dis(settings["preset"])
        case "raft":
            return Raft(settings["weights"], settings["device"])
        case "alltracker":
            return AllTracker(settings["repository"], settings["weights"], settings["device"])
    foreign = _foreign(settings["tracker"])
    if foreign is None:
        names = ", ".join(tracker_names())
        raise ValueError(f"optical_flow.tracker is {settings['tracker']!r}; it is one of {names}")
    weights = str(networks.find_weights(settings["weights"])) if settings["weights"] else ""
    return foreign.load()(weights, settings["device"])


def _checked(frames: Iterable[Frame]) -> Iterator[Frame]:
    count = 0
    for frame in frames:
        count += 1
        size = frame.shape[:2]
        if min(size) < SMALLEST:
            raise ValueError(f"{_NEEDS} and got {size[0]}x{size[1]}: raise clips.height and clips.width")
        yield frame
    if count < 2:
        raise ValueError(f"{_NEEDS} and got {count} frame: raise clips.num_frames")


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
    planes = np.moveaxis(values.reshape(-1, height, width), 0, -1)  # as DIS makes them, if it made them
    small = (width // stride, height // stride)
    cells = cv2.resize(np.ascontiguousarray(planes), small, interpolation=cv2.INTER_AREA)
    cells = np.moveaxis(cells.reshape(*small[::-1], -1), -1, 0).reshape(*values.shape[:-2], *small[::-1])
    return torch.from_numpy(np.ascontiguousarray(cells))
