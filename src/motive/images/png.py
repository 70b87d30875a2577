"""Images as files; what can't be drawn is a warning, never a failed stage."""

import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from motive.store.files import write_bytes

log = logging.getLogger("motive")


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB image u8 [H,W,3], whole or not at all; the same image gives the same bytes."""
    write_bytes(path, cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def write_if_drawn(path: Path, draw: Callable[[], np.ndarray]) -> None:
    """Write what `draw` returns, u8 [H,W,3]; if a video for it can't be read, warn and leave no image.

    People look at it, nothing depends on it: that must not cost the results beside it.
    """
    try:
        write_png(path, draw())
    except (ValueError, OSError) as error:  # BadClip is a ValueError
        path.unlink(missing_ok=True)  # of an earlier run: it would show something else
        log.warning("%s is not drawn: %s", path, error)


def thumbnail(path: Path, width: int) -> bytes:
    """An image file as JPEG, at most so many pixels wide: small enough to stand in a page."""
    image = cv2.imread(str(path))
    assert image is not None, f"{path} was just written"
    height = round(image.shape[0] * width / image.shape[1])
    if image.shape[1] > width:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
