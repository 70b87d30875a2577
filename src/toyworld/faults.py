"""Harmful clips: what is done to a true law so that it breaks the physics.

Most false laws are smooth: the same path in another rhythm, or one property of a body that is lost.
"""

import numpy as np

from toyworld.motions import Array, Law, rotation

WINDOW = 1.4  # seconds from the start within which a motion happens, and about which time is reversed
GRID = 241  # moments of the window at which a path is measured


def innermost(law: Law) -> Law:
    """The true law within a harmful clip's."""
    while "law" in law.keywords:
        law = law.keywords["law"]
    return law


def path_lengths(law: Law, reach: float) -> tuple[Array, Array]:
    """Moments [GRID] of the window, and how far (px) a law has carried its pieces by then.

    A turn or a change of shape counts as far as it carries a point at `reach` px from a piece's centre.
    """
    moments = np.linspace(0, WINDOW, GRID)
    poses = law(moments) * np.array([reach, reach, 1.0])
    steps = np.linalg.norm(np.diff(poses, axis=0), axis=(-2, -1)).mean(-1)
    return moments, np.concatenate([[0.0], np.cumsum(steps)])


def along_path(times: Array, *, law: Law, reach: float, delay: float, duration: float, power: float) -> Array:
    """Poses [F,P,2,3] of a law whose whole path is covered in `duration` (s) after a delay (s).

    The share of the path is that of the time to a power: 1 is a constant pace, 2 a constant acceleration.
    """
    moments, lengths = path_lengths(law, reach)
    share = np.clip((times - delay) / duration, 0, 1) ** power
    # Where nothing moves the length stands still: the first moment of it counts.
    lengths, first = np.unique(lengths, return_index=True)
    return law(np.interp(share * lengths[-1], lengths, moments[first]))


def rewinding(times: Array, *, law: Law, until: float) -> Array:
    """Poses [F,P,2,3] of a law that is played to a moment (s), and smoothly back again."""
    return law(until * (1 - np.cos(np.pi * times / until)) / 2)


def without_turning(times: Array, *, law: Law) -> Array:
    """Poses [F,P,2,3] of a law whose orientation stays that of time zero."""
    poses = law(times)
    poses[..., :2] = law(np.zeros(1))[..., :2]
    return poses


def turning(times: Array, *, law: Law, rate: float) -> Array:
    """Poses [F,P,2,3] of a law whose pieces turn besides, at a rate (rad/s)."""
    poses = law(times)
    poses[..., :2] = rotation(rate * times)[:, None] @ poses[..., :2]
    return poses


def without_area(times: Array, *, law: Law, grows: bool) -> Array:
    """Poses [F,P,2,3] of a law that draws its pieces out: here they grow, or shrink, on every axis alike."""
    poses = law(times)
    strains = np.linalg.svd(poses[..., :2], compute_uv=False)  # [F,P,2], the larger first
    scale = strains[..., 0] if grows else strains[..., 1]
    poses[..., :2] = scale[..., None, None] * np.eye(2)
    return poses


def teleport(times: Array, *, law: Law, moments: tuple[float, ...], hold: float) -> Array:
    """Poses [F,P,2,3] of a law that stands for `hold` seconds at one moment of its path, then at another."""
    slot = np.floor(times / hold + 1e-9).astype(int) % len(moments)
    return law(np.array(moments)[slot])


def jitter(times: Array, *, law: Law, offsets: tuple[tuple[float, float], ...]) -> Array:
    """Poses [F,P,2,3] of a law thrown aside by an offset (px) that changes every twelfth of a second."""
    slot = np.floor(times * 12 + 1e-9).astype(int) % len(offsets)
    poses = law(times)
    poses[..., 2] += np.array(offsets)[slot][:, None]
    return poses


def time_reversed(times: Array, *, law: Law) -> Array:
    """Poses [F,P,2,3] of a law played backward from the end of the window, then at rest where it began."""
    return law(np.maximum(WINDOW - times, 0))


def paced(times: Array, *, law: Law, pace: float) -> Array:
    """Poses [F,P,2,3] of a law at another pace: as true as the law, under other gravity and speeds."""
    return law(pace * times)
