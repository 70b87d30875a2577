"""Where and how fast: draws the parameters of each motion so that it fits the frame and the window.

The ranges are narrow: a caption and a first frame all but say what follows. Where much was left to chance, a
model of two million numbers drew blobs; paces that differ are for the held-out clips (`faults.paced`).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from toyworld import faults, motions
from toyworld.faults import WINDOW, innermost
from toyworld.motions import Law, Point
from toyworld.shapes import OUTLINES

GROUND = 61.0  # world pixels from the top


class Body(NamedTuple):
    """Extents of an upright object in world px: its radius, and from its centre down, up and to a side."""

    radius: float
    foot: float
    head: float
    side: float


def body_of(shape: str, radius: float) -> Body:
    """The extents of a shape at a radius (px)."""
    outline = OUTLINES[shape][0] * radius
    return Body(radius, outline[:, 1].max(), -outline[:, 1].min(), np.abs(outline[:, 0]).max())


def middle(rng: np.random.Generator, spread: float = 3) -> Point:
    """A point (px) near the middle of the frame."""
    return float(rng.uniform(32 - spread, 32 + spread)), float(rng.uniform(32 - spread, 32 + spread))


def sign(rng: np.random.Generator) -> int:
    """Minus or plus one."""
    return int(rng.choice((-1, 1)))


def stage_free_fall(rng: np.random.Generator, body: Body) -> Law:
    """A fall over the whole height of the frame."""
    start = (float(rng.uniform(31, 33)), body.head + float(rng.uniform(1.5, 2.5)))
    gravity = float(rng.uniform(79, 81))
    return partial(motions.free_fall, start=start, gravity=gravity, ground=GROUND - body.foot)


def stage_bounce(rng: np.random.Generator, body: Body) -> Law:
    """A throw at the ground with enough speed for two impacts within the window."""
    drift = float(rng.uniform(6.5, 7.5))
    return partial(
        motions.bounce,
        start=(32 - 1.4 * drift + float(rng.uniform(-1, 1)), body.head + float(rng.uniform(1.5, 2.5))),
        velocity=(drift, float(rng.uniform(25, 27))),
        gravity=float(rng.uniform(81, 83)),
        restitution=float(rng.uniform(0.73, 0.77)),
        ground=GROUND - body.foot,
    )


def across(rng: np.random.Generator, body: Body) -> tuple[float, float]:
    """Start (px) and distance (px) of a way along the ground from the left of the frame."""
    distance = float(rng.uniform(0.94, 0.98)) * (62 - 2 * body.side)
    return 1 + body.side, distance


def stage_slide(rng: np.random.Generator, body: Body) -> Law:
    """A push that friction brakes to rest at the other side."""
    start, distance = across(rng, body)
    duration = float(rng.uniform(1.3, 1.35))
    return partial(motions.slide, start=(start, GROUND - body.foot), distance=distance, duration=duration)


def stage_roll(rng: np.random.Generator, body: Body) -> Law:
    """A wheel that crosses the frame."""
    start, distance = across(rng, body)
    return partial(
        motions.roll,
        start=(start, GROUND - body.radius),
        distance=distance,
        duration=float(rng.uniform(1.53, 1.58)),
        radius=body.radius,
        angle=0.0,
    )


def stage_float(rng: np.random.Generator, body: Body) -> Law:
    """A balloon let go near the ground; it sways towards the middle first."""
    return partial(
        motions.rise,
        start=(float(rng.uniform(27, 29)), GROUND - body.foot - float(rng.uniform(0, 1))),
        speed=float(rng.uniform(29.5, 30.5)),
        settling=float(rng.uniform(0.2, 0.22)),
        sway=float(rng.uniform(5.5, 6.5)),
        period=float(rng.uniform(1.48, 1.52)),
        ceiling=body.head + 1,
    )


def stage_spin(rng: np.random.Generator, body: Body) -> Law:
    """A turn of about one round within the window, clockwise, in the middle."""
    rate = float(rng.uniform(5.4, 5.6))
    decay = float(rng.uniform(0.08, 0.12))
    return partial(motions.spin, centre=middle(rng, 1), rate=rate, decay=decay, angle=0.0)


def stage_swing(rng: np.random.Generator, body: Body) -> Law:
    """A pendulum let go at one side that reaches the other within the window."""
    return partial(
        motions.swing,
        pivot=(float(rng.uniform(31.5, 32.5)), float(rng.uniform(5.5, 6.5))),
        amplitude=-float(rng.uniform(0.74, 0.76)),
        length=float(rng.uniform(23.7, 24.3)),
        gravity=float(rng.uniform(99, 101)),
    )


def stage_compress(rng: np.random.Generator, body: Body) -> Law:
    """A press from above on an object that stands on the ground."""
    return partial(
        motions.compress,
        foot=(float(rng.uniform(31, 33)), GROUND),
        height=body.foot,
        flattened=float(rng.uniform(0.49, 0.51)),
        rate=float(rng.uniform(5.4, 5.6)),
        damping=float(rng.uniform(0.65, 0.68)),
    )


def stage_stretch(rng: np.random.Generator, body: Body) -> Law:
    """A slow pull along the width."""
    return partial(
        motions.stretch,
        centre=middle(rng, 1),
        elongation=float(rng.uniform(1.97, 2.03)),
        axis=0.0,
        rate=float(rng.uniform(4.2, 4.3)),
        damping=float(rng.uniform(0.89, 0.91)),
    )


def stage_explode(rng: np.random.Generator, body: Body) -> Law:
    """A burst into six pieces, each of which flies off to its own side."""
    count = 6
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(-0.03, 0.03, count)) / count
    outward = np.stack([np.cos(angles), np.sin(angles)], -1)
    sites = outward * body.radius * rng.uniform(0.59, 0.61, (count, 1))
    velocities = outward * rng.uniform(26, 28, (count, 1)) + (0, -14)
    return partial(
        motions.explode,
        centre=(float(rng.uniform(31, 33)), float(rng.uniform(30, 32))),
        sites=tuple(map(tuple, sites.tolist())),
        velocities=tuple(map(tuple, velocities.tolist())),
        rates=tuple(rng.uniform(-0.3, 0.3, count).tolist()),
        gravity=float(rng.uniform(54, 56)),
        drag=float(rng.uniform(1.45, 1.55)),
        fuse=float(rng.uniform(0.04, 0.06)),
    )


STAGES: dict[str, Callable[[np.random.Generator, Body], Law]] = {
    "compress": stage_compress,
    "bounce": stage_bounce,
    "roll": stage_roll,
    "explode": stage_explode,
    "float": stage_float,
    "free_fall": stage_free_fall,
    "slide": stage_slide,
    "spin": stage_spin,
    "stretch": stage_stretch,
    "swing": stage_swing,
}


def stage_rest(rng: np.random.Generator, body: Body) -> Law:
    """An object that lies on the ground or hangs anywhere in the frame, well inside."""
    reach = max(body)
    x, y = rng.uniform(reach + 2, 62 - reach, 2)
    return partial(motions.rest, centre=(float(x), float(y if rng.random() < 0.5 else GROUND - body.foot)))


def spoil(rng: np.random.Generator, fault: str, law: Law, body: Body) -> Law:
    """A harmful clip's law made of a true one: the same start and place, but a motion that no body makes."""
    along = partial(faults.along_path, law=law, reach=body.radius)
    match fault:
        case "constant_pace":
            return partial(along, delay=0.0, duration=float(rng.uniform(1.08, 1.12)), power=1.0)
        case "hover_then_drop":
            delay = float(rng.uniform(0.4, 0.6))
            return partial(along, delay=delay, duration=float(rng.uniform(0.25, 0.35)), power=1.0)
        case "speeding_up":
            return partial(along, delay=0.0, duration=float(rng.uniform(1.08, 1.12)), power=2.5)
        case "rewinding":
            return partial(faults.rewinding, law=law, until=float(rng.uniform(0.54, 0.56)))
        case "sliding_roll":
            return partial(faults.without_turning, law=law)
        case "turning_slide":
            return partial(faults.turning, law=law, rate=float(rng.uniform(3.9, 4.1)))
        case "gaining_energy":
            return gaining_energy(rng, law)
        case "changing_size":
            return partial(faults.without_area, law=law, grows=innermost(law).func is motions.stretch)
        case "time_reversed":
            return partial(faults.time_reversed, law=law)
        case "teleport":
            # From early to late and back, so that every jump is a large one.
            early = rng.uniform(0, 0.3, 8)
            late = rng.uniform(0.7, WINDOW, 8)
            moments = tuple(np.stack([early, late], -1).ravel().tolist())
            return partial(faults.teleport, law=law, moments=moments, hold=float(rng.uniform(0.2, 0.35)))
        case "jitter":
            offsets = np.clip(rng.normal(0, 3.5, (48, 2)), -7, 7)
            return partial(faults.jitter, law=law, offsets=tuple(map(tuple, offsets.tolist())))
    raise ValueError(f"unknown fault {fault!r}")


def gaining_energy(rng: np.random.Generator, law: Law) -> Law:
    """A bounce from low above the ground that rises higher than it fell."""
    true = innermost(law).keywords
    x, _ = true["start"]
    drop = float(rng.uniform(11, 15))
    changed = {
        "start": (x, true["ground"] - drop),
        "velocity": (true["velocity"][0], 0.0),
        "restitution": float(rng.uniform(1.3, 1.45)),
    }
    return partial(motions.bounce, **true | changed)
