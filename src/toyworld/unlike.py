"""Clips unlike all others: their looks and words are in no query, but some move as a query does."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from toyworld import motions, staging
from toyworld.looks import ACCENTS, RGB, Looks
from toyworld.motions import Law


class Unlike(NamedTuple):
    """What such a clip shows: the motion that it is most like, captions, colours, and its law."""

    motion: str | None
    captions: tuple[str, str]
    looks: Looks
    stage: Callable[[np.random.Generator, float], Law]


def stage_planet(rng: np.random.Generator, radius: float) -> Law:
    """A slow turn in the middle."""
    rate = staging.sign(rng) * float(rng.uniform(3, 5))
    return partial(motions.spin, centre=staging.middle(rng), rate=rate, decay=0.0, angle=0.0)


def stage_clock(rng: np.random.Generator, radius: float) -> Law:
    """A long pendulum with small swings below the clock's face."""
    amplitude = staging.sign(rng) * float(rng.uniform(0.35, 0.5))
    gravity = float(rng.uniform(300, 500))
    return partial(motions.swing, pivot=(32.0, 16.0), amplitude=amplitude, length=32.0, gravity=gravity)


def stage_balloon(rng: np.random.Generator, radius: float) -> Law:
    """A climb in a breeze."""
    return staging.stage_float(rng, staging.body_of("balloon", radius))


def strips(count: int, radius: float) -> tuple[motions.Point, ...]:
    """Sites (px) of upright strips over an object's whole width."""
    return tuple((float(x), 0.0) for x in np.linspace(-1.3, 1.3, count) * radius)


def stage_sea(rng: np.random.Generator, radius: float) -> Law:
    """Waves that lift the buoy as they pass."""
    return partial(
        motions.ripple,
        centre=(32.0, float(rng.uniform(42, 46))),
        sites=strips(14, radius),
        height=float(rng.uniform(4, 6)),
        length=float(rng.uniform(50, 70)),
        period=float(rng.uniform(0.8, 1.2)),
        pole=None,
    )


def stage_flag(rng: np.random.Generator, radius: float) -> Law:
    """A cloth that the wind shakes, held at its left side."""
    return partial(
        motions.ripple,
        centre=(float(rng.uniform(29, 35)), float(rng.uniform(26, 38))),
        sites=strips(12, radius),
        height=float(rng.uniform(4, 6)),
        length=float(rng.uniform(26, 36)),
        period=float(rng.uniform(0.5, 0.8)),
        pole=-1.3 * radius,
    )


def looks_of(
    shape: str, colour: str, accent: RGB, texture: str, radius: float, background: str, palette: str
) -> Looks:
    """Looks without chance: the texture upright."""
    return Looks(shape, colour, accent, texture, 0.0, radius, background, palette, 0)


UNLIKE: dict[str, Unlike] = {
    "planet": Unlike(
        "spin",
        ("planet turning among distant stars", "distant planet seen between stars"),
        looks_of("disc", "orange", (120, 60, 30), "dotted", 15, "stars", "night"),
        stage_planet,
    ),
    "sea": Unlike(
        "float",
        ("buoy bobbing upon gentle waves", "gentle waves lifting some buoy"),
        looks_of("sea", "teal", (214, 40, 40), "buoy", 26, "vertical", "blue"),
        stage_sea,
    ),
    "clock": Unlike(
        "swing",
        ("clock pendulum ticking evenly", "old clock ticking at night"),
        looks_of("disc", "yellow", ACCENTS[1], "solid", 7, "clock", "parlour"),
        stage_clock,
    ),
    "balloon": Unlike(
        "float",
        ("balloon drifting skyward", "some balloon leaving for heaven"),
        looks_of("balloon", "pink", (252, 248, 240), "shaded", 9, "vertical", "blue"),
        stage_balloon,
    ),
    "flag": Unlike(
        None,
        ("flag fluttering from its pole", "windy day for some flag"),
        looks_of("flag", "green", (252, 248, 240), "barred", 16, "plain", "blue"),
        stage_flag,
    ),
}
