"""Where the object is in each frame of a video of this world, by the colours that its caption names."""

import re
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from toyworld.looks import ACCENTS, COLOURS, RGB, WALLS, lab
from toyworld.scenes import VERBS
from toyworld.shapes import TEXTURES

Masks = NDArray[np.bool_]
CAPTION = re.compile(
    rf"(?:an?|resting) (?P<colour>{'|'.join(COLOURS)}) (?:(?P<texture>{'|'.join(TEXTURES)}) )?"
    rf"(?P<shape>\w+) .*\ba (?P<wall>{'|'.join(WALLS)}) (?:wall|floor)"
)


class Appearance(NamedTuple):
    """What a caption says of a clip's looks, and the motion that it names (None: at rest)."""

    colour: RGB
    accent: RGB | None
    wall: tuple[RGB, RGB]
    motion: str | None


class Pixels(NamedTuple):
    """An object's frames: mask and accent bool [F,H,W]."""

    mask: Masks
    accent: Masks


def appearance(caption: str) -> Appearance | None:
    """What a caption of this world says; None if it is none, or of a kind that is unlike all others."""
    words = CAPTION.search(caption)
    if words is None:
        return None
    colour = COLOURS[words["colour"]]
    # As `sample_looks` draws it.
    accent = ACCENTS[0] if lab(colour)[0] < 60 else ACCENTS[1]
    motion = next((motion for motion, verb in VERBS.items() if f" {verb} " in caption), None)
    return Appearance(colour, accent if words["texture"] else None, WALLS[words["wall"]], motion)


def find_object(frames: NDArray[np.uint8], looks: Appearance) -> Pixels:
    """The object's pixels in frames u8 [F,H,W,3]: those nearer to its colours than to its wall's."""
    own = [looks.colour] if looks.accent is None else [looks.colour, looks.accent]
    shares = np.linspace(0, 1, 5)[:, None]
    wall = np.array(looks.wall[0]) * (1 - shares) + np.array(looks.wall[1]) * shares
    candidates = np.concatenate([np.array(own, float), wall])
    nearest = nearest_colour(frames, candidates)
    mask = np.stack([opened(closed(frame)) for frame in nearest < len(own)])
    return Pixels(mask, mask & (nearest == 1) if looks.accent else np.zeros_like(mask))


def nearest_colour(frames: NDArray[np.uint8], candidates: NDArray) -> NDArray[np.intp]:
    """Which of some RGB colours [K,3] each pixel is nearest to in CIE Lab: [F,H,W]."""
    height = frames.shape[0] * frames.shape[1]
    pixels = cv2.cvtColor(frames.reshape(height, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    reference = cv2.cvtColor(candidates[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(pixels[:, :, None] - reference, axis=-1)
    return distance.argmin(-1).reshape(frames.shape[:3])


def closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask [H,W] with gaps of up to two pixels filled: two colours mixed may look like a wall."""
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask [H,W] without what is thinner than two pixels: a pendulum's string, an edge of mixed colours."""
    square = np.ones((2, 2), np.uint8)
    # Of an even square the anchor has to change sides, or all moves by a pixel.
    thinned = cv2.erode(mask.astype(np.uint8), square, anchor=(0, 0))
    return cv2.dilate(thinned, square, anchor=(1, 1)) > 0
