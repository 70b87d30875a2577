"""A real clip, small: what tests encode in many ways."""

import numpy as np
import pytest

from motive.video.reading import read_frames
from testing.made_clips import SIZE
from testing.real_clips import real_clip


@pytest.fixture(scope="session")
def bikes() -> np.ndarray:
    """Two seconds of a real clip, 24 frames, small."""
    return read_frames(real_clip("bikes.mp4"), 24, 12.0, *SIZE, "window")
