"""Harmful clips: what is done to a true motion so that it breaks the physics."""

import numpy as np

from toyworld.motions import Array, Law, Point, place

WINDOW = 1.4  # seconds from the start within which a motion happens, and about which time is reversed


def hover_then_drop(times: Array, *, start: Point, hang: float, speed: float, ground: float) -> Array:
    """Poses [F,1,2,3] of an object that hangs in the air (s), then drops at once at full speed (px/s)."""
    return place(start[0], np.minimum(start[1] + speed * np.maximum(times - hang, 0), ground))


def constant_speed_fall(times: Array, *, start: Point, speed: float, ground: float) -> Array:
    """Poses [F,1,2,3] of a fall at one speed (px/s) from the first moment to the ground."""
    return place(start[0], np.minimum(start[1] + speed * times, ground))


def without_turning(times: Array, *, law: Law) -> Array:
    """Poses [F,P,2,3] of a law whose orientation stays that of time zero."""
    poses = law(times)
    poses[..., :2] = law(np.zeros(1))[..., :2]
    return poses


def teleport(times: Array, *, law: Law, moments: tuple[float, ...], hold: float) -> Array:
    """Poses [F,P,2,3] of a law that stands for `hold` seconds at one moment of its path, then at another."""
    slot = np.floor(times / hold + 1e-9).astype(int) % len(moments)
    return law(np.array(moments)[slot])


def jitter(times: Array, *, law: Law, offsets: tuple[Point, ...]) -> Array:
    """Poses [F,P,2,3] of a law thrown aside by an offset (px) that changes every twelfth of a second."""
    slot = np.floor(times * 12 + 1e-9).astype(int) % len(offsets)
    poses = law(times)
    poses[..., 2] += np.array(offsets)[slot][:, None]
    return poses


def time_reversed(times: Array, *, law: Law) -> Array:
    """Poses [F,P,2,3] of a law played backward from the end of the window, then at rest where it began."""
    return law(np.maximum(WINDOW - times, 0))
