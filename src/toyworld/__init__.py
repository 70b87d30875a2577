"""The rendered world: tiny clips with known motion, and how each breaks or keeps the laws."""

from toyworld.drawing import Clip, contact_sheet, draw_clip
from toyworld.looks import Looks
from toyworld.motions import MOTIONS
from toyworld.scenes import (
    CAMERAS,
    DISTRACTORS,
    FAKES,
    FALSE_LAWS,
    HARMFUL_KINDS,
    UNLIKE_KINDS,
    Scene,
    sample_scene,
    training_scene,
    vocabulary,
)

__all__ = [
    "CAMERAS",
    "DISTRACTORS",
    "FAKES",
    "FALSE_LAWS",
    "HARMFUL_KINDS",
    "MOTIONS",
    "UNLIKE_KINDS",
    "Clip",
    "Looks",
    "Scene",
    "contact_sheet",
    "draw_clip",
    "sample_scene",
    "training_scene",
    "vocabulary",
]
