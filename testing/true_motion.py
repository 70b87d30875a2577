"""Where objects of a rendered clip move, and what its true camera does."""

import cv2
import numpy as np

from toyworld import Clip


def left_or_entered(clip: Clip, frame: int, least: float) -> np.ndarray:
    """Pixels [H,W] that an object leaves or enters between a frame and the one before, faster than `least`
    pixels."""
    if frame == 0:
        return np.zeros(clip.frames.shape[1:3], bool)
    flow = clip.flow[frame].astype(np.float32)
    own = np.hypot(*(flow - camera_flow(clip, frame)))
    left = clip.mask[frame - 1] & (own >= least)
    return left | arrived(left, flow)


def arrived(left: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Where the pixels [H,W] end up that this optical flow [2,H,W] carries, small gaps closed."""
    y, x = np.nonzero(left)
    ends = np.rint(np.stack([y, x]) + flow[::-1, y, x]).astype(int)
    inside = ((ends >= 0) & (ends < np.reshape(left.shape, (2, 1)))).all(0)
    entered = np.zeros(left.shape, np.uint8)
    entered[tuple(ends[:, inside])] = 1
    return cv2.morphologyEx(entered, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def camera_flow(clip: Clip, frame: int) -> np.ndarray:
    """The optical flow [2,H,W] that the true camera makes."""
    height, width = clip.frames.shape[1:3]
    # The truth maps corners of pixels; pixel indices are their centres.
    centre = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    before, after = (np.vstack([clip.camera[f], [0, 0, 1]]) for f in (frame - 1, frame))
    moves = centre @ after @ np.linalg.inv(before) @ np.linalg.inv(centre)
    places = np.stack([*np.indices((height, width))[::-1], np.ones((height, width))])
    return (np.einsum("ij,jhw->ihw", moves, places) - places)[:2]
