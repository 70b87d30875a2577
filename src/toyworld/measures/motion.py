"""How the object moves, as numbers a person can check: the path of its centre, its turn, its size."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toyworld.measures.objects import Pixels
from toyworld.motions import Array

LANDED = 2.0  # px above its lowest place from which an object has landed


class Path(NamedTuple):
    """Of each frame: centre [F,2] px, area [F] px, moments [F,2,2] px^2, angle [F] rad (NaN: unmarked)."""

    centre: Array
    area: Array
    moments: Array
    angle: Array


def path_of(pixels: Pixels) -> Path:
    """The path of an object; frames without one repeat the frame before."""
    measured = [_state(mask, accent) for mask, accent in zip(pixels.mask, pixels.accent, strict=True)]
    centre, area, moments, angle = (np.array(values) for values in zip(*measured, strict=True))
    there = np.maximum.accumulate(np.where(area > 0, np.arange(len(area)), 0))
    angle = np.unwrap(angle[there]) if np.isfinite(angle[there]).all() else np.full(len(area), np.nan)
    return Path(centre[there], area, moments[there], angle)


def _state(mask: NDArray[np.bool_], accent: NDArray[np.bool_]) -> tuple[Array, float, Array, float]:
    if not mask.any():
        return np.full(2, 32.0), 0.0, np.eye(2), np.nan
    points = np.stack(np.nonzero(mask)[::-1], -1).astype(float)
    centre = points.mean(0)
    moments = np.cov(points.T) if len(points) > 1 else np.eye(2)
    angle = np.nan
    if accent.any() and not (accent == mask).all():
        towards = np.stack(np.nonzero(accent)[::-1], -1).mean(0) - centre
        angle = float(np.arctan2(towards[1], towards[0]))
    return centre, float(len(points)), moments, angle


def fall_acceleration(path: Path, fps: float) -> float:
    """Acceleration (px/s^2) of a fall until it lands: gravity's 70 to 90, at a constant pace 0."""
    y = path.centre[:, 1]
    flying = int(np.argmax(y > y.max() - LANDED))
    return _acceleration(y[:flying], fps)


def climb_acceleration(path: Path, fps: float) -> float:
    """Acceleration (px/s^2) of a climb: a balloon soon has its speed, so about 0; upward is positive."""
    return _acceleration(-path.centre[2:, 1], fps)


def slide_acceleration(path: Path, fps: float) -> float:
    """Acceleration (px/s^2) along the way: friction brakes, so it is negative."""
    x = path.centre[:, 0]
    return _acceleration(np.abs(x - x[0]), fps)


def _acceleration(y: Array, fps: float) -> float:
    if len(y) < 4:
        return float("nan")
    return float(2 * np.polyfit(np.arange(len(y)) / fps, y, 2)[0])


def roll_ratio(path: Path, fps: float) -> float:
    """Angle turned times radius over distance: 1 rolls, 0 slides."""
    travel = path.centre[-1, 0] - path.centre[0, 0]
    radius = np.sqrt(np.median(path.area) / np.pi)
    return float((path.angle[-1] - path.angle[0]) * radius / travel) if abs(travel) > 5 else float("nan")


def slide_turn(path: Path, fps: float) -> float:
    """Angle (rad) turned on the way, by the object's own axis: a block that slides does not turn."""
    return float(np.ptp(path.angle)) if np.isfinite(path.angle).all() else _axis_range(path)


def _axis_range(path: Path) -> float:
    """Range (rad) of the direction of the longest axis."""
    direction = 0.5 * np.arctan2(2 * path.moments[:, 0, 1], path.moments[:, 0, 0] - path.moments[:, 1, 1])
    return float(np.ptp(np.unwrap(2 * direction)) / 2)


def rebound(path: Path, fps: float) -> float:
    """Height of the first rebound over that of the fall before it: below 1, and above it energy is gained."""
    y = path.centre[:, 1]
    impact = int(y.argmax())
    drop = y[impact] - y[: impact + 1].min()
    rise = y[impact] - y[impact:].min()
    return float(rise / drop) if drop > 3 else float("nan")


def bounce_acceleration(path: Path, fps: float) -> float:
    """Acceleration (px/s^2) before the first impact of a bounce."""
    y = path.centre[:, 1]
    return _acceleration(y[: int(y.argmax())], fps)


def spin_steadiness(path: Path, fps: float) -> float:
    """Net turn over all turning: 1 for a spin in one direction, near 0 if it turns back."""
    turns = np.diff(path.angle)
    return float(abs(turns.sum()) / np.abs(turns).sum()) if np.abs(turns).sum() > 0.5 else float("nan")


def swing_evenness(path: Path, fps: float) -> float:
    """Speed in the first fifth of the way over the mean speed: even is 1, a pendulum starts slowly."""
    steps = np.linalg.norm(np.diff(path.centre, axis=0), axis=-1)
    return float(steps[:2].mean() / steps.mean()) if steps.sum() > 5 else float("nan")


def area_ratio(path: Path, fps: float) -> float:
    """Area at the end over that at the beginning: a body keeps it, about 1."""
    return float(path.area[-1] / path.area[0]) if path.area[0] > 0 else float("nan")


def spread_kept(path: Path, fps: float) -> float:
    """Spread of the pieces at the end over the widest: 1 if they fly on, less if they come back together."""
    spread = np.trace(path.moments, axis1=1, axis2=2)
    return float(spread[-1] / spread.max())


class Law(NamedTuple):
    """A number of a motion, and what it is called."""

    name: str
    measure: Callable[[Path, float], float]


# Of each motion the numbers that show its law; the first tells the true one from the base model's.
LAWS: dict[str, tuple[Law, ...]] = {
    "free_fall": (Law("fall_acceleration", fall_acceleration),),
    "bounce": (Law("bounce_acceleration", bounce_acceleration), Law("bounce_rebound", rebound)),
    "roll": (Law("roll_ratio", roll_ratio),),
    "slide": (Law("slide_turn", slide_turn), Law("slide_acceleration", slide_acceleration)),
    "float": (Law("climb_acceleration", climb_acceleration),),
    "spin": (Law("spin_steadiness", spin_steadiness),),
    "swing": (Law("swing_evenness", swing_evenness),),
    "compress": (Law("compressed_area", area_ratio),),
    "stretch": (Law("stretched_area", area_ratio),),
    "explode": (Law("spread_kept", spread_kept),),
}
LAW_NAMES = tuple(law.name for laws in LAWS.values() for law in laws)


def law_numbers(path: Path, motion: str, fps: float) -> dict[str, float]:
    """The numbers that show a motion's law; NaN if the object does not move enough to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.RankWarning)
        return {law.name: law.measure(path, fps) for law in LAWS[motion]}
