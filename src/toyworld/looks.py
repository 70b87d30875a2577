"""What a clip looks like apart from its motion: shape, colour, texture and background."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from toyworld.shapes import SHAPES, TEXTURES

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "orange": (240, 130, 20),
    "yellow": (245, 205, 30),
    "green": (40, 150, 60),
    "teal": (10, 140, 140),
    "blue": (35, 80, 200),
    "purple": (120, 50, 170),
    "pink": (235, 90, 160),
    "brown": (120, 70, 35),
    "black": (25, 25, 30),
    "white": (250, 250, 250),
    "gray": (110, 115, 120),
}
ACCENTS: tuple[RGB, ...] = ((252, 248, 240), (30, 28, 40))
# A wall or floor runs between two near colours, so that it stays smooth for a small autoencoder.
WALLS: dict[str, tuple[RGB, RGB]] = {
    "white": ((242, 242, 240), (214, 216, 220)),
    "gray": ((176, 180, 184), (140, 144, 150)),
    "dark": ((52, 54, 66), (30, 32, 44)),
    "blue": ((172, 206, 238), (126, 170, 214)),
    "green": ((186, 220, 176), (142, 188, 136)),
    "pink": ((246, 206, 212), (224, 168, 182)),
    "sand": ((238, 220, 180), (214, 190, 142)),
    "purple": ((206, 190, 232), (168, 148, 206)),
}
# Of the clips that are unlike all others.
PALETTES = WALLS | {
    "night": ((14, 16, 40), (236, 232, 214)),
    "parlour": ((150, 104, 70), (244, 238, 220)),
}
BACKGROUNDS = ("plain", "vertical", "horizontal", "radial", "floor", "blobs", "bands")
TELLING_BACKGROUNDS = ("floor", "blobs", "bands", "radial")  # in which a moving camera can be seen
# A ball that slides would teach a false motion.
WHEELS = ("disc", "ring")
ROUND = (*WHEELS, "ellipse")
MARKED = ("roll", "spin", "slide")  # motions in which a turn, or none, has to be seen
PLAIN = "solid"  # the texture in which no rotation can be seen
CONTRAST = 28.0  # CIE Lab distance from the background, of the colour ...
ACCENT_CONTRAST = 18.0  # ... and of the accent


@dataclass(frozen=True)
class Style:
    """What looks are drawn from."""

    shapes: tuple[str, ...]
    textures: tuple[str, ...]
    backgrounds: tuple[str, ...]
    colours: tuple[str, ...] = tuple(COLOURS)
    marked: float = 0.3  # share of the objects that are not plain, though their motion could do without
    texture_turn: float = 0.0  # rad, the largest angle of a texture


# Simple looks are what a model of two million numbers can hold while they move.
SIMPLE_SHAPES = ("disc", "square", "triangle", "pentagon", "hexagon", "capsule")
SIMPLE_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
NEW_SHAPES = ("ellipse", "ring", "cross")
NEW_COLOURS = ("teal", "brown", "gray")
STYLES = {
    "simple": Style(SIMPLE_SHAPES, (PLAIN, "two-tone"), ("plain", "floor"), SIMPLE_COLOURS),
    "rich": Style(SHAPES, TEXTURES, BACKGROUNDS, marked=0.8, texture_turn=np.pi),
    # Of the same kind as the simple ones, and none of them: shapes and colours that pool and queries lack.
    "new": Style(NEW_SHAPES, (PLAIN, "two-tone"), ("plain", "floor"), NEW_COLOURS),
    "both": Style(
        SIMPLE_SHAPES + NEW_SHAPES, (PLAIN, "two-tone"), ("plain", "floor"), SIMPLE_COLOURS + NEW_COLOURS
    ),
}


@dataclass(frozen=True)
class Looks:
    """Appearance of one clip; `grain` seeds the small details of the background."""

    shape: str
    colour: str
    accent: RGB
    texture: str
    texture_angle: float
    radius: float
    background: str
    palette: str
    grain: int


def lab(colour: RGB) -> np.ndarray:
    """CIE Lab coordinates [3] of an 8-bit RGB colour."""
    return cv2.cvtColor(np.array([[colour]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def contrast(colour: RGB, palette: str) -> float:
    """Smallest Lab distance between a colour and the two ends of a palette."""
    return min(float(np.linalg.norm(lab(colour) - lab(end))) for end in PALETTES[palette])


def matching_palettes(colour: str, accent: RGB, texture: str) -> list[str]:
    """Names of the palettes before which the object's colours stand out."""
    plain = texture == "solid"
    return [
        name
        for name in WALLS
        if contrast(COLOURS[colour], name) > CONTRAST and (plain or contrast(accent, name) > ACCENT_CONTRAST)
    ]


def sample_looks(
    rng: np.random.Generator, motion: str | None, moving_camera: bool, style: Style, plain: bool = False
) -> Looks:
    """Random looks that show the motion: a wheel is round, what turns is marked, a pan has a background."""
    shape = str(rng.choice(fitting_shapes(motion, style)))
    marked = tuple(name for name in style.textures if name != PLAIN)
    telling = motion in MARKED or rng.random() < style.marked
    texture = str(rng.choice(marked if telling else (PLAIN,)))
    colour = str(rng.choice(style.colours))
    # The accent far from the colour in lightness: stripes of two like colours would not be seen.
    accent = ACCENTS[0] if lab(COLOURS[colour])[0] < 60 else ACCENTS[1]
    backgrounds = ("plain",) if plain else TELLING_BACKGROUNDS if moving_camera else style.backgrounds
    return Looks(
        shape=shape,
        colour=colour,
        accent=accent,
        texture=texture,
        texture_angle=float(rng.uniform(0, style.texture_turn)),
        radius=float(rng.uniform(12.3, 12.7)),
        background=str(rng.choice(backgrounds)),
        palette=str(rng.choice(matching_palettes(colour, accent, texture))),
        grain=int(rng.integers(2**31)),
    )


def fitting_shapes(motion: str | None, style: Style) -> tuple[str, ...]:
    """The shapes of a style that show a motion; a ball that slides would teach a false one."""
    match motion:
        case "roll":
            return tuple(name for name in style.shapes if name in WHEELS)
        case "slide":
            return tuple(name for name in style.shapes if name not in ROUND)
    return style.shapes


def before_telling_background(looks: Looks) -> Looks:
    """The same looks on a background that shows the camera: a pan over a plain wall is a slide."""
    return looks if looks.background in TELLING_BACKGROUNDS else replace(looks, background="blobs")
