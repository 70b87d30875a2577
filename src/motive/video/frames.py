"""One decoded frame -> the image a player would show, cropped and scaled.

Rotation and mirroring, oblong pixels, alpha (over black) and 10 bits are undone. High dynamic range is not
tone-mapped, interlaced lines are not parted. Grey is read from the luma plane where there is one.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange

LIMITED = ("yuv420p", "yuv422p", "yuv444p", "nv12")  # plane 0 is 8 bits of luma, from 16 to 235 ...
FULL = ("yuvj420p", "yuvj422p", "yuvj444p")  # ... or from 0 to 255, as it is where the frame says so
_STRETCHED = np.clip((np.arange(256) - 16) * 255 / 219, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Pose:
    """How stored pixels are turned to be shown (the display matrix, in quarter turns), and their shape."""

    swap: bool
    flip_x: bool
    flip_y: bool
    aspect: float  # width / height of a pixel as shown

    def shown_size(self, frame: VideoFrame) -> tuple[int, int]:
        if self.swap:
            return frame.width, max(1, round(frame.height * self.aspect))
        return frame.height, max(1, round(frame.width * self.aspect))


def read_pose(frame: VideoFrame, stream: Any) -> Pose:
    """How the frames of a stream are turned, by one of them."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 0.1 < aspect < 10:
        aspect = 1.0
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Pose(False, False, False, aspect)
    turn = np.frombuffer(bytes(matrix), np.int32)[:9].reshape(3, 3)  # (x', y', 1) = (x, y, 1) @ turn
    if abs(turn[0, 1]) > abs(turn[0, 0]):
        return Pose(True, bool(turn[1, 0] < 0), bool(turn[0, 1] < 0), 1 / aspect)
    return Pose(False, bool(turn[0, 0] < 0), bool(turn[1, 1] < 0), aspect)


def evenly_spaced(count: int, wanted: int, repeat: bool = False) -> np.ndarray:
    """Places of `wanted` of `count` things, evenly from the first to the last, ascending.

    Where there are fewer: all of them, or with `repeat` as many as wanted, some more than once.
    """
    if not repeat:
        wanted = min(wanted, count)
    return np.linspace(0, count - 1, wanted).round().astype(int)


def to_grey(image: np.ndarray) -> np.ndarray:
    """RGB uint8 [H,W,3] -> uint8 [H,W]; what is grey stays."""
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def standardised(frame: VideoFrame, pose: Pose, height: int, width: int, grey: bool = False) -> np.ndarray:
    """RGB uint8 [H,W,3] or grey [H,W] as shown, of the largest centred part that has the wanted shape."""
    shown_height, shown_width = pose.shown_size(frame)
    luma = _luma(frame) if grey else None
    image = _turned(_rgb(frame) if luma is None else luma, pose)
    scale = max(height / shown_height, width / shown_width)
    image = _centre(image, height / scale, width / scale * image.shape[1] / shown_width)
    if image.shape[:2] != (height, width):
        image = cv2.resize(
            np.ascontiguousarray(image),
            (width, height),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
    if luma is not None and frame.format.name in LIMITED and frame.color_range != ColorRange.JPEG:
        return cv2.LUT(image, _STRETCHED)
    return to_grey(image) if grey else image


def _turned(image: np.ndarray, pose: Pose) -> np.ndarray:
    if pose.swap:
        image = image.swapaxes(0, 1)
    return image[:: -1 if pose.flip_y else 1, :: -1 if pose.flip_x else 1]


def _centre(image: np.ndarray, height: float, width: float) -> np.ndarray:
    """Crop before scaling: same image, and no giant between when a clip is very long and thin."""
    return image[_middle(image.shape[0], height), _middle(image.shape[1], width)]


def _middle(count: int, length: float) -> slice:
    length = max(1, round(length))
    start = max(0, (count - length) // 2)
    return slice(start, start + length)


def _luma(frame: VideoFrame) -> np.ndarray | None:
    """Uint8 [H,W] as stored, if it lies there so."""
    plane = frame.planes[0]
    if frame.format.name not in (*LIMITED, *FULL) or plane.line_size < frame.width:
        return None
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
        : frame.height, : frame.width
    ]


def _rgb(frame: VideoFrame) -> np.ndarray:
    if not any(component.is_alpha for component in frame.format.components) and frame.format.name != "pal8":
        return frame.to_ndarray(format="rgb24")
    image = frame.to_ndarray(format="rgba").astype(np.uint16)
    return ((image[..., :3] * image[..., 3:] + 127) // 255).astype(np.uint8)
