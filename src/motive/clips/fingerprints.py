"""What a clip looks like in a few numbers that survive another encoding, size or brightness.

Of five frames the low frequencies of brightness and colour: a perceptual hash, but with values instead of
signs, because signs can't tell small objects on plain walls apart (docs/decisions/0007).
"""

import base64
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float16, UInt8

from motive.video.frames import evenly_spaced

FRAMES = 5  # of a clip, evenly from its first to its last
SIDE = 32  # pixels to which a frame is shrunk
FINE = 12  # frequencies kept of brightness, in each direction
COARSE = 3  # ... and of each colour
SIZE = FINE * FINE - 1 + 2 * COARSE * COARSE  # numbers of a frame: brightness itself is left out
FLAT = 2.0  # grey levels: with less contrast than that there is nothing to compare
USUAL = 40.0  # grey levels of contrast and colour: what clips are scaled towards

_steps = np.arange(SIDE)
_waves = np.cos(np.pi * (_steps + 0.5) * _steps[:, None] / SIDE) * np.sqrt(2 / SIDE)
_waves[0] = np.sqrt(1 / SIDE)


def picks(num_frames: int) -> np.ndarray:
    """Which frames of a clip are looked at."""
    return evenly_spaced(num_frames, FRAMES, repeat=True)


def look(frame: UInt8[np.ndarray, "H W 3"]) -> Float16[np.ndarray, "size"]:
    """A frame's low frequencies, in grey levels (their squares add up to the mean square)."""
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    planes = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32) - 128
    grey, red, blue = (_waves @ planes[..., c] @ _waves.T / SIDE for c in range(3))
    kept = [grey[:FINE, :FINE].ravel()[1:], *(plane[:COARSE, :COARSE].ravel() for plane in (red, blue))]
    return np.concatenate(kept).astype(np.float16)


def fingerprint(looks: Sequence[np.ndarray]) -> str:
    """The looks of a clip's frames, brought to a usual contrast, as text; empty where they are flat."""
    values = np.stack(looks).astype(np.float32)
    if np.sqrt((values[:, : FINE * FINE - 1] ** 2).sum(1).mean()) < FLAT:
        return ""
    strength = np.sqrt((values**2).sum(1).mean())
    scaled = (values * 2 * USUAL / (strength + USUAL)).astype("<f2")
    return base64.b64encode(scaled.tobytes()).decode()


def read_fingerprints(texts: Sequence[str]) -> Float16[np.ndarray, "clips frames size"]:
    """Fingerprints back as numbers."""
    data = b"".join(map(base64.b64decode, texts))
    return np.frombuffer(data, "<f2").reshape(len(texts), FRAMES, SIZE)
