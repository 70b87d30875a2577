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
        height, width = (frame.width, frame.height) if self.swap else (frame.height, frame.width)
        return height, max(1, round(width * self.aspect))


def read_pose(frame: VideoFrame, stream: Any) -> Pose:
    """How the frames of a stream are turned, by one of them."""
    swap = flip_x = flip_y = False
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:  # x' = a x + c y, y' = b x + d y
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]
        swap = bool(abs(b) > abs(a))
        flip_x, flip_y = bool((c if swap else a) < 0), bool((b if swap else d) < 0)
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if 0.1 < aspect < 10 else 1.0
    return Pose(swap, flip_x, flip_y, 1 / aspect if swap else aspect)


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
    image = _rgb(frame) if luma is None else luma
    image = image.swapaxes(0, 1) if pose.swap else image
    image = image[:: -1 if pose.flip_y else 1, :: -1 if pose.flip_x else 1]
    scale = max(height / shown_height, width / shown_width)
    image = _centre(image, height / scale, width / scale * image.shape[1] / shown_width)
    if image.shape[:2] != (height, width):
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=way)
    if luma is not None and frame.format.name in LIMITED and frame.color_range != ColorRange.JPEG:
        return cv2.LUT(image, _STRETCHED)
    return to_grey(image) if grey else image


def _centre(image: np.ndarray, height: float, width: float) -> np.ndarray:
    """Crop before scaling: same image, and no giant between when a clip is very long and thin."""
    height, width = max(1, round(height)), max(1, round(width))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[max(0, top) : max(0, top) + height, max(0, left) : max(0, left) + width]


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
