"""Outlines, textures and backgrounds as plain functions of coordinates."""

from collections.abc import Callable

import numpy as np

from toyworld.motions import Array


def polygon(corners: int, inner: float = 1.0) -> Array:
    """Corners [K,2] of a regular polygon of radius 1 on a flat foot, or of a star when `inner` is below 1."""
    points = corners * (2 if inner < 1 else 1)
    # An even polygon is turned by half a side: it stands on an edge.
    angles = 2 * np.pi * (np.arange(points) + (0.5 if corners % 2 == 0 else 0)) / points - np.pi / 2
    radii = np.where(np.arange(points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], -1)


def oval(wide: float, tall: float) -> Array:
    """Outline [64,2] of an ellipse with the given half axes."""
    return polygon(64) * (wide, tall)


def pill() -> Array:
    """Outline [64,2] of a lying capsule of half length 1 and half height 0.55."""
    circle = polygon(64) * 0.55
    return circle + np.where(circle[:, :1] > 0, 0.45, -0.45) * np.array([1.0, 0.0])


def cross(arm: float = 0.36) -> Array:
    """Corners [12,2] of an upright cross whose arms are 2 `arm` wide."""
    quarter = np.array([[arm, -1], [arm, -arm], [1, -arm]])
    turn = np.array([[0, -1], [1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn.T, k) for k in range(4)])


def balloon() -> Array:
    """Outline [64,2] of a drop that stands on its tip."""
    circle = polygon(64)
    x, y = circle.T
    return np.stack([x * np.where(y > 0, np.sqrt(1 - y**2 / 1.44), 1), np.where(y > 0, 1.25 * y, y)], -1)


def sea(buoy: float = 0.3) -> Array:
    """Outline [68,2] of water from below the middle on, with half a buoy above it."""
    angles = np.linspace(np.pi, 2 * np.pi, 64)
    half = buoy * np.stack([np.cos(angles), np.sin(angles)], -1)
    return np.concatenate([[[-1.34, 1.34], [-1.34, 0]], half, [[1.34, 0], [1.34, 1.34]]])


OUTLINES: dict[str, tuple[Array, ...]] = {
    "disc": (polygon(64),),
    "square": (polygon(4) * 1.2,),
    "triangle": (polygon(3) * 1.2 + (0, 0.1),),
    "pentagon": (polygon(5) * 1.05,),
    "hexagon": (polygon(6),),
    "star": (polygon(5, 0.5) * 1.2,),
    "ellipse": (oval(1.1, 0.75),),
    "ring": (polygon(64), polygon(64) * 0.42),  # the second outline is the hole
    "capsule": (pill() * 1.1,),
    "cross": (cross(),),
}
SHAPES = tuple(OUTLINES)
# Of the clips that are unlike all others.
OUTLINES |= {
    "balloon": (balloon(),),
    "flag": (np.array([[-1.3, -0.8], [1.3, -0.8], [1.3, 0.8], [-1.3, 0.8]]),),
    "sea": (sea(),),
}

# A texture gives the share [H,W] of the accent colour at object coordinates u, v in radii.
TEXTURE_FIELDS: dict[str, Callable[[Array, Array], np.ndarray]] = {
    "solid": lambda u, v: np.zeros_like(u),
    "striped": lambda u, v: np.mod(u / 0.72 + 0.25, 1) < 0.5,
    "dotted": lambda u, v: np.hypot(np.mod(u, 0.8) - 0.4, np.mod(v + 0.3, 0.8) - 0.4) < 0.25,
    "checkered": lambda u, v: (np.floor(u / 0.6 + 0.3) + np.floor(v / 0.6 + 0.2)) % 2 == 0,
    "two-tone": lambda u, v: u > 0,
    "shaded": lambda u, v: np.clip(0.5 + u / 1.8, 0, 0.85),
}
TEXTURES = tuple(TEXTURE_FIELDS)
# Of the clips that are unlike all others.
TEXTURE_FIELDS |= {
    "buoy": lambda u, v: np.hypot(u, v) < 0.32,
    "barred": lambda u, v: np.abs(v) < 0.27,
}


def background_field(kind: str, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Share [H,W] of a palette's second colour at world coordinates x, y in frames: a still sees 0 to 1."""
    match kind:
        case "plain":
            return np.zeros(np.broadcast_shapes(x.shape, y.shape))
        case "vertical":
            return np.clip(y, 0, 1) + 0 * x
        case "horizontal":
            return np.clip(x, 0, 1) + 0 * y
        case "radial":
            return np.clip(1.4 * np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)), 0, 1)
        case "floor":
            return 1 / (1 + np.exp(-60 * (y - rng.uniform(0.62, 0.78)))) + 0 * x
        case "blobs":
            middles = rng.uniform(-0.4, 1.4, (10, 2))
            blobs = (np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.03) for a, b in middles)
            return np.clip(sum(blobs), 0, 1)
        case "bands":
            angle = rng.uniform(0.5, 1.1) * rng.choice((-1, 1))
            across = 2.2 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()
            return 0.5 + 0.5 * np.sin(2 * np.pi * across)
        case "stars":
            middles = rng.uniform(-0.4, 1.4, (60, 2))
            stars = (np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.0002) for a, b in middles)
            return np.clip(sum(stars), 0, 1)
        case "clock":
            return 1 / (1 + np.exp(120 * (np.hypot(x - 0.5, y - 0.16) - 0.14)))
    raise ValueError(f"unknown background {kind!r}")
