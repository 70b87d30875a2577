"""Where and how fast: draws the parameters of each motion so that it fits the frame and the window."""

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
    start = (float(rng.uniform(20, 44)), body.head + float(rng.uniform(1, 4)))
    gravity = float(rng.uniform(70, 90))
    return partial(motions.free_fall, start=start, gravity=gravity, ground=GROUND - body.foot)


def stage_bounce(rng: np.random.Generator, body: Body) -> Law:
    """A throw at the ground with enough speed for two impacts within the window."""
    drift = sign(rng) * float(rng.uniform(3, 10))
    return partial(
        motions.bounce,
        start=(32 - 1.2 * drift + float(rng.uniform(-3, 3)), body.head + float(rng.uniform(1, 8))),
        velocity=(drift, float(rng.uniform(15, 40))),
        gravity=float(rng.uniform(75, 90)),
        restitution=float(rng.uniform(0.6, 0.85)),
        ground=GROUND - body.foot,
    )


def across(rng: np.random.Generator, body: Body) -> tuple[float, float]:
    """Start (px) and signed distance (px) of a way along the ground from one side of the frame."""
    way = sign(rng)
    distance = float(rng.uniform(0.8, 1.0)) * (62 - 2 * body.side)
    return 32 - way * (31 - body.side), way * distance


def stage_slide(rng: np.random.Generator, body: Body) -> Law:
    """A push that friction brakes to rest at the other side."""
    start, distance = across(rng, body)
    duration = float(rng.uniform(1.1, 1.6))
    return partial(motions.slide, start=(start, GROUND - body.foot), distance=distance, duration=duration)


def stage_roll(rng: np.random.Generator, body: Body) -> Law:
    """A wheel that crosses the frame."""
    start, distance = across(rng, body)
    return partial(
        motions.roll,
        start=(start, GROUND - body.radius),
        distance=distance,
        duration=float(rng.uniform(1.3, 1.9)),
        radius=body.radius,
        angle=float(rng.uniform(0, 2 * np.pi)),
    )


def stage_float(rng: np.random.Generator, body: Body) -> Law:
    """A balloon let go near the ground."""
    return partial(
        motions.rise,
        start=(float(rng.uniform(27, 37)), GROUND - body.foot - float(rng.uniform(0, 3))),
        speed=float(rng.uniform(26, 34)),
        settling=float(rng.uniform(0.15, 0.3)),
        sway=sign(rng) * float(rng.uniform(4, 8)),
        period=float(rng.uniform(1.2, 1.8)),
        ceiling=body.head + 1,
    )


def stage_spin(rng: np.random.Generator, body: Body) -> Law:
    """A turn of one to one and a half rounds within the window, in the middle."""
    rate = sign(rng) * float(rng.uniform(4, 7))
    angle = float(rng.uniform(0, 2 * np.pi))
    decay = float(rng.choice((0, 0.2, 0.4)))
    return partial(motions.spin, centre=middle(rng), rate=rate, decay=decay, angle=angle)


def stage_swing(rng: np.random.Generator, body: Body) -> Law:
    """A pendulum let go at one side that reaches the other within the window."""
    return partial(
        motions.swing,
        pivot=(float(rng.uniform(31, 33)), float(rng.uniform(5, 9))),
        amplitude=sign(rng) * float(rng.uniform(0.75, 0.95)),
        length=float(rng.uniform(22, 27)),
        gravity=float(rng.uniform(90, 110)),
    )


def stage_compress(rng: np.random.Generator, body: Body) -> Law:
    """A press from above on an object that stands on the ground."""
    return partial(
        motions.compress,
        foot=(float(rng.uniform(30, 34)), GROUND),
        height=body.foot,
        flattened=float(rng.uniform(0.45, 0.58)),
        rate=float(rng.uniform(4.5, 6.5)),
        damping=float(rng.uniform(0.55, 0.8)),
    )


def stage_stretch(rng: np.random.Generator, body: Body) -> Law:
    """A slow pull along the width or the height, never across what is long already."""
    long = body.side > 1.2 * body.foot
    upright = 0 if long else rng.choice((0, np.pi / 2))
    return partial(
        motions.stretch,
        centre=middle(rng, 1.5),
        elongation=float(rng.uniform(1.8, 2.3)),
        axis=float(upright + rng.uniform(-0.2, 0.2)),
        rate=float(rng.uniform(3.5, 5)),
        damping=float(rng.uniform(0.8, 0.95)),
    )


def stage_explode(rng: np.random.Generator, body: Body) -> Law:
    """A burst into 6-12 pieces, each of which flies off to its own side."""
    count = int(rng.integers(6, 13))
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count) + rng.uniform(0, count)) / count
    outward = np.stack([np.cos(angles), np.sin(angles)], -1)
    # Sites at uneven distances cut short and long pieces instead of equal slices.
    sites = outward * body.radius * rng.uniform(0.45, 0.75, (count, 1))
    velocities = outward * rng.uniform(24, 44, (count, 1)) + (0, -16)
    return partial(
        motions.explode,
        centre=(float(rng.uniform(29, 35)), float(rng.uniform(28, 34))),
        sites=tuple(map(tuple, sites.tolist())),
        velocities=tuple(map(tuple, velocities.tolist())),
        rates=tuple(rng.uniform(-5, 5, count).tolist()),
        gravity=float(rng.uniform(45, 65)),
        drag=float(rng.uniform(1.2, 1.8)),
        fuse=float(rng.uniform(0.02, 0.15)),
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
            return partial(along, delay=0.0, duration=float(rng.uniform(0.95, 1.25)), power=1.0)
        case "hover_then_drop":
            delay = float(rng.uniform(0.4, 0.6))
            return partial(along, delay=delay, duration=float(rng.uniform(0.25, 0.35)), power=1.0)
        case "speeding_up":
            return partial(along, delay=0.0, duration=float(rng.uniform(1.0, 1.2)), power=2.5)
        case "rewinding":
            return partial(faults.rewinding, law=law, until=float(rng.uniform(0.5, 0.6)))
        case "sliding_roll":
            return partial(faults.without_turning, law=law)
        case "turning_slide":
            return partial(faults.turning, law=law, rate=sign(rng) * float(rng.uniform(3, 5)))
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
    x, _ = law.keywords["start"]
    drop = float(rng.uniform(11, 15))
    changed = {
        "start": (x, law.keywords["ground"] - drop),
        "velocity": (law.keywords["velocity"][0], 0.0),
        "restitution": float(rng.uniform(1.3, 1.45)),
    }
    return partial(motions.bounce, **law.keywords | changed)
