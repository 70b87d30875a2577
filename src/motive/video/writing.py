"""Frames -> an H.264 video file; the same frames give the same bytes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from motive.store.files import aside

CONTAINER = {"fflags": "+bitexact", "movflags": "+faststart"}
# Else the bytes vary: x264's mbtree reads beside small frames, its fast paths differ between CPUs.
STABLE = {"x264-params": "mbtree=0:cpu-independent=1", "threads": "1", "flags": "+bitexact"}


def write_video(path: Path, frames: np.ndarray, fps: float, crf: int = 12) -> None:
    """Write RGB frames, uint8 [F,H,W,3] with even H and W, as H.264 in mp4; same frames, same bytes.

    Raises:
        ValueError: H or W is odd.
    """
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"{path}: {height} x {width} frames: H.264 wants even sizes")
    with aside(path) as place, av.open(str(place), "w", format="mp4", options=CONTAINER) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        stream.height = height
        stream.width = width
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), **STABLE}
        for frame in np.ascontiguousarray(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))  # no more will come
