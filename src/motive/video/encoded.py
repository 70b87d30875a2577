"""Videos as the bytes of their file, so that a store can keep them like any other tensor."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from motive.video.reading import read_frames
from motive.video.writing import write_video


def encoded(frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> UInt8[torch.Tensor, "bytes"]:
    """The mp4 file of these frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames, fps)
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def decoded(
    mp4: UInt8[torch.Tensor, "bytes"], size: tuple[int, int, int], fps: float
) -> UInt8[np.ndarray, "F H W 3"]:
    """What a player shows of such a file: frames of size (frames, height, width)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(mp4.numpy().tobytes())
        return read_frames(path, size[0], fps, size[1], size[2], "window")
