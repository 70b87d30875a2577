"""The rendered world: tiny clips with known motion, and how each breaks or keeps the laws."""

from motive.world.drawing import Clip, contact_sheet, draw_clip
from motive.world.looks import Looks
from motive.world.motions import MOTIONS
from motive.world.scenes import (
    BAD_TEACHERS,
    CAMERAS,
    DISTRACTORS,
    Scene,
    sample_scene,
    training_scene,
    vocabulary,
)

__all__ = [
    "BAD_TEACHERS",
    "CAMERAS",
    "DISTRACTORS",
    "MOTIONS",
    "Clip",
    "Looks",
    "Scene",
    "contact_sheet",
    "draw_clip",
    "sample_scene",
    "training_scene",
    "vocabulary",
]
