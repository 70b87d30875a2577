"""The ten motions: each law maps times to the poses of an object's pieces, in pixels of a 64x64 frame.

A pose is an affine map from the object's own pixels (origin at its centre) to the world's:
x to the right, y down.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Law = Callable[[Array], Array]
Point = tuple[float, float]

MOTIONS = ("compress", "bounce", "roll", "explode", "float", "free_fall", "slide", "spin", "stretch", "swing")


def rotation(angle: ArrayLike) -> Array:
    """Rotations [...,2,2] by angles [...] (rad); positive turns x towards y, clockwise on the screen."""
    cosine = np.cos(angle)
    sine = np.sin(angle)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def place(
    x: ArrayLike, y: ArrayLike, angle: ArrayLike = 0.0, along: ArrayLike = 1.0, axis: float = 0.0
) -> Array:
    """Poses [F,1,2,3] at x, y px, turned by angle rad, drawn out by `along` on an axis (rad), area kept."""
    x, y, angle, along = np.broadcast_arrays(*np.atleast_1d(x, y, angle, along))
    strain = np.zeros((*x.shape, 2, 2))
    strain[..., 0, 0] = along
    strain[..., 1, 1] = 1 / along
    linear = rotation(angle) @ rotation(axis) @ strain @ rotation(-axis)
    return np.concatenate([linear, np.stack([x, y], -1)[..., None]], -1)[:, None]


def rest(times: Array, *, centre: Point) -> Array:
    """Poses [F,1,2,3] of an object that lies still at its centre (px)."""
    return place(np.full_like(times, centre[0]), centre[1])


def free_fall(times: Array, *, start: Point, gravity: float, ground: float) -> Array:
    """Poses [F,1,2,3] of a fall from rest under gravity (px/s^2) that ends dead at the ground (px)."""
    return place(start[0], np.minimum(start[1] + gravity * times**2 / 2, ground))


def bounce(
    times: Array, *, start: Point, velocity: Point, gravity: float, restitution: float, ground: float
) -> Array:
    """Poses [F,1,2,3] of a thrown object that keeps `restitution` of its vertical speed at every impact."""
    y = np.full_like(times, ground)
    takeoff = 0.0
    height = start[1]
    speed = velocity[1]
    end = np.max(times, initial=0.0)
    # Impacts come in a geometric series; below 1 px/s a hop is under a hundredth of a pixel high.
    while takeoff <= end and (abs(speed) > 1.0 or height < ground):
        impact = np.sqrt(speed**2 + 2 * gravity * (ground - height))
        landing = takeoff + (impact - speed) / gravity
        since = times - takeoff
        flying = (since >= 0) & (times < landing)
        y = np.where(flying, height + speed * since + gravity * since**2 / 2, y)
        # The next hop starts where this one lands, with less speed.
        takeoff = landing
        height = ground
        speed = -restitution * impact
    return place(start[0] + velocity[0] * times, y)


def braked(times: Array, distance: float, duration: float) -> Array:
    """Travel [F] px under constant friction that comes to rest after a distance (px) and a duration (s)."""
    left = np.clip(1 - times / duration, 0, 1)
    return distance * (1 - left**2)


def slide(times: Array, *, start: Point, distance: float, duration: float) -> Array:
    """Poses [F,1,2,3] of a block that friction stops after a signed distance (px); it never turns."""
    return place(start[0] + braked(times, distance, duration), start[1])


def roll(
    times: Array, *, start: Point, distance: float, duration: float, radius: float, angle: float
) -> Array:
    """Poses [F,1,2,3] of a wheel without slip: the angle turned is the distance over the radius (px)."""
    travel = braked(times, distance, duration)
    return place(start[0] + travel, start[1], angle + travel / radius)


def rise(
    times: Array, *, start: Point, speed: float, settling: float, sway: float, period: float, ceiling: float
) -> Array:
    """Poses [F,1,2,3] of a balloon: buoyancy against drag (terminal px/s) and a sideways sway (px, s)."""
    climb = speed * (times - settling * -np.expm1(-times / settling))
    drift = sway * np.sin(2 * np.pi * times / period)
    return place(start[0] + drift, np.maximum(start[1] - climb, ceiling), 0.03 * drift)


def spin(times: Array, *, centre: Point, rate: float, decay: float, angle: float) -> Array:
    """Poses [F,1,2,3] of a turn in place at a rate (rad/s) that fades exponentially (1/s)."""
    turned = rate * (-np.expm1(-decay * times) / decay if decay else times)
    return place(centre[0], centre[1], angle + turned)


def pendulum(times: Array, amplitude: float, length: float, gravity: float) -> Array:
    """Angles [F] rad from the vertical of a pendulum let go at its amplitude, by RK4 on its equation."""
    step = 1 / 240

    def slope(state: Array) -> Array:
        """(angle, rate) -> (rate, acceleration)."""
        return np.array([state[1], -(gravity / length) * np.sin(state[0])])

    grid = np.arange(int(np.max(times, initial=0.0) / step) + 3) * step
    angles = np.empty_like(grid)
    state = np.array([amplitude, 0.0])
    for index in range(len(grid)):
        angles[index] = state[0]
        k1 = slope(state)
        k2 = slope(state + step / 2 * k1)
        k3 = slope(state + step / 2 * k2)
        k4 = slope(state + step * k3)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.interp(times, grid, angles)


def swing(times: Array, *, pivot: Point, amplitude: float, length: float, gravity: float) -> Array:
    """Poses [F,1,2,3] of a bob on a string (px) from a pivot; the bob turns with its string."""
    angle = pendulum(times, amplitude, length, gravity)
    return place(pivot[0] + length * np.sin(angle), pivot[1] + length * np.cos(angle), -angle)


def settle(times: Array, rate: float, damping: float) -> Array:
    """Step response [F] from 0 to 1 of a spring of natural rate (rad/s) and damping ratio below 1."""
    ringing = rate * np.sqrt(1 - damping**2)
    swing_back = np.cos(ringing * times) + damping * rate / ringing * np.sin(ringing * times)
    return 1 - np.exp(-damping * rate * times) * swing_back


def compress(
    times: Array, *, foot: Point, height: float, flattened: float, rate: float, damping: float
) -> Array:
    """Poses [F,1,2,3] of an object pressed to `flattened` of its height upon its foot (px), area kept."""
    tall = 1 - (1 - flattened) * settle(times, rate, damping)
    return place(foot[0], foot[1] - height * tall, along=1 / tall)


def stretch(
    times: Array, *, centre: Point, elongation: float, axis: float, rate: float, damping: float
) -> Array:
    """Poses [F,1,2,3] of an object drawn out to `elongation` of its length on an axis (rad), area kept."""
    along = 1 + (elongation - 1) * settle(times, rate, damping)
    return place(centre[0], centre[1], along=along, axis=axis)


def explode(
    times: Array,
    *,
    centre: Point,
    sites: tuple[Point, ...],
    velocities: tuple[Point, ...],
    rates: tuple[float, ...],
    gravity: float,
    drag: float,
    fuse: float,
) -> Array:
    """Poses [F,P,2,3] of fragments that leave at velocities (px/s) after a fuse (s), with weight and drag."""
    since = np.maximum(times - fuse, 0)[:, None]
    coast = -np.expm1(-drag * since) / drag
    fall = gravity / drag * (since - coast)
    travel = coast[..., None] * np.array(velocities) + np.stack([np.zeros_like(fall), fall], -1)
    linear = rotation(coast * np.array(rates))
    # Each fragment turns about its own site, so that the pieces fit together as long as nothing has moved.
    seats = np.array(sites)
    offset = np.array(centre) + travel + seats - np.einsum("fpij,pj->fpi", linear, seats)
    return np.concatenate([linear, offset[..., None]], -1)


def ripple(
    times: Array,
    *,
    centre: Point,
    sites: tuple[Point, ...],
    height: float,
    length: float,
    period: float,
    pole: float | None,
) -> Array:
    """Poses [F,P,2,3] of upright strips that a wave of height and length (px) runs through, to the right.

    `pole`: where the strips are held fast (object px), from where the wave grows to its height at -`pole`.
    """
    x = np.array(sites)[:, 0]
    phase = 2 * np.pi * (x / length - times[:, None] / period)  # [F,P]
    growth = np.ones_like(x) if pole is None else (x - pole) / (-2 * pole)
    slope_of_growth = 0.0 if pole is None else 1 / (-2 * pole)
    lift = height * growth * np.sin(phase)
    slope = height * (growth * np.cos(phase) * 2 * np.pi / length + slope_of_growth * np.sin(phase))
    poses = np.zeros((*phase.shape, 2, 3))
    poses[..., 0, 0] = 1
    poses[..., 1, 1] = 1
    # A strip leans as the wave does where it stands.
    poses[..., 1, 0] = slope
    poses[..., 0, 2] = centre[0]
    poses[..., 1, 2] = centre[1] + lift - slope * x
    return poses
