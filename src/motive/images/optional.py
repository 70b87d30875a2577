"""An image beside a stage's results: people look at it, nothing depends on it."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from motive.images.motion import write_png
from motive.video.decoding import BadClip

log = logging.getLogger("motive")


def write_if_drawn(path: Path, draw: Callable[[], np.ndarray]) -> None:
    """Write what `draw` returns, u8 [H,W,3]; if a video for it can't be read, warn and leave no image."""
    try:
        image = draw()
    except (BadClip, OSError, ValueError) as error:
        log.warning("%s is not drawn: %s", path, error)
        path.unlink(missing_ok=True)  # of an earlier run
    else:
        write_png(path, image)
