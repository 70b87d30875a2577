"""Cameras: each maps times to affine maps from world pixels to those of a 64x64 frame."""

import numpy as np

from toyworld.motions import Array, Point, rotation

CENTRE = np.array([32.0, 32.0])


def view(zoom: Array, angle: Array, shift: Array) -> Array:
    """Cameras [F,2,3] that zoom and turn [F] about the middle of the frame, then shift [F,2] px."""
    linear = zoom[:, None, None] * rotation(angle)
    return np.concatenate([linear, (CENTRE + shift - linear @ CENTRE)[..., None]], -1)


def still(times: Array) -> Array:
    """Cameras [F,2,3] that never move."""
    return view(np.ones_like(times), np.zeros_like(times), np.zeros((len(times), 2)))


def pan(times: Array, *, reach: Point, rate: float) -> Array:
    """Cameras [F,2,3] that sweep by a reach (px) and back, as a sine of the rate (rad/s)."""
    shift = np.sin(rate * times)[:, None] * np.array(reach)
    return view(np.ones_like(times), np.zeros_like(times), shift)


def zoom(times: Array, *, reach: float, rate: float) -> Array:
    """Cameras [F,2,3] whose magnification grows to exp(reach) and back, as a sine of the rate (rad/s)."""
    return view(np.exp(reach * np.sin(rate * times)), np.zeros_like(times), np.zeros((len(times), 2)))


def shake(
    times: Array,
    *,
    reach: tuple[Point, ...],
    tilt: tuple[float, ...],
    rates: tuple[float, ...],
    phases: tuple[float, ...],
) -> Array:
    """Cameras [F,2,3] in an unsteady hand: sums of sines in shift (px) and tilt (rad), level at time zero."""
    waves = np.sin(np.outer(times, rates) + phases) - np.sin(phases)
    return view(np.ones_like(times), waves @ np.array(tilt), waves @ np.array(reach))
