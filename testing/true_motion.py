"""Where objects of a rendered clip move, and what its true camera does."""

import cv2
import numpy as np

from toyworld import Clip


def left_or_entered(clip: Clip, frame: int, least: float) -> np.ndarray:
    """Pixels that an object leaves or enters between a frame and the one before, faster than `least`
    pixels."""
    height, width = clip.frames.shape[1:3]
    if frame == 0:
        return np.zeros((height, width), bool)
    flow = clip.flow[frame].astype(np.float32)
    own = np.hypot(*(flow - camera_flow(clip, frame)))
    left = clip.mask[frame - 1] & (own >= least)
    y, x = np.nonzero(left)
    ends = np.rint(np.stack([y, x]) + flow[::-1, y, x]).astype(int)
    y, x = ends[:, ((ends >= 0) & (ends < [[height], [width]])).all(0)]
    entered = np.zeros_like(left)
    entered[y, x] = True
    entered = cv2.morphologyEx(entered.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    return left | entered


def camera_flow(clip: Clip, frame: int) -> np.ndarray:
    """The optical flow [2,H,W] that the true camera makes."""
    height, width = clip.frames.shape[1:3]
    # The truth maps corners of pixels; pixel indices are their centres.
    centre = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    before, after = (np.vstack([clip.camera[f], [0, 0, 1]]) for f in (frame - 1, frame))
    moves = centre @ after @ np.linalg.inv(before) @ np.linalg.inv(centre)
    places = np.stack([*np.indices((height, width))[::-1], np.ones((height, width))])
    return (np.einsum("ij,jhw->ihw", moves, places) - places)[:2]
