"""Measures of generated videos that a project brings: functions named in params.yaml as MODULE:FUNCTION."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

# (frames, prompt, frames a second) -> the same names for every video; NaN: no answer for this one
Function = Callable[[UInt8[np.ndarray, "F H W 3"], str, float], dict[str, float]]


class Measure(NamedTuple):
    """`version` is the module's VERSION: whoever changes what the numbers mean raises it."""

    name: str
    function: Function
    version: int


def load_measure(name: str) -> Measure:
    """The measure of this name.

    Raises:
        ValueError: there is none, or its module says no version.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        return Measure(name, getattr(module, function_name), module.VERSION)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"evaluation.measures: {name} can't be used: {error}; it is MODULE:FUNCTION, and the module has "
            "a number VERSION"
        ) from error


def measure_video(
    measures: list[Measure], frames: UInt8[np.ndarray, "F H W 3"], prompt: str, fps: float
) -> dict[str, float]:
    """The numbers of all measures.

    Raises:
        ValueError: two of them use one name.
    """
    numbers: dict[str, float] = {}
    for measure in measures:
        made = measure.function(frames, prompt, fps)
        twice = numbers.keys() & made.keys()
        if twice:
            raise ValueError(f"evaluation.measures: {measure.name} returns {sorted(twice)}, as another does")
        numbers |= made
    return numbers
