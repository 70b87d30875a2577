"""All that is measured of one video of this world: does it hold its object, and is its motion physical?"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from toyworld.measures.holds import holds
from toyworld.measures.judge import load_judge, physical
from toyworld.measures.motion import LAW_NAMES, law_numbers, path_of
from toyworld.measures.objects import appearance, find_object

VERSION = 1  # raise it when a number comes to mean something else
judge = cache(load_judge)


def measure_video(frames: NDArray[np.uint8], caption: str, fps: float) -> dict[str, float]:
    """Of frames u8 [F,H,W,3]: `holds` (0 or 1), `physical` (the judge's probability), and of each motion the
    numbers that show its law.

    NaN where a caption has no answer: those of another world have none at all, an object has one motion.
    """
    numbers = dict.fromkeys(("holds", "physical", *LAW_NAMES), float("nan"))
    looks = appearance(caption)
    if looks is None:
        return numbers
    pixels = find_object(frames, looks)
    numbers["holds"] = float(holds(pixels, looks.motion))
    if looks.motion is not None:
        path = path_of(pixels)
        numbers["physical"] = physical(judge(), path, looks.motion, fps)
        numbers |= law_numbers(path, looks.motion, fps)
    return numbers
