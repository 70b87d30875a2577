"""Does a video keep its object: the same shape and size, whole, from frame to frame?"""

import cv2
import numpy as np
from numpy.typing import NDArray

from toyworld.measures.objects import Pixels

NEAR = 0.85  # overlap with the frame before
FAR = 0.75  # overlap with frames at least FAR_APART away
FAR_APART = 3  # frames
AREA = 0.15  # largest change of area against the median
WHOLE = 0.9  # least share of the largest component
ANGLES = np.arange(0, 360, 7.5)
SIDE = 48  # of the normalised mask
DEFORMING = ("compress", "stretch")  # are compared without their proportions
BREAKING = "explode"  # keeps its area only ...
BREAKING_AREA = 0.45  # ... and that less exactly: narrow gaps between its pieces are filled


def holds(pixels: Pixels, motion: str | None) -> bool:
    """Whether the object of a video holds as far as its motion lets it."""
    near, far = overlaps(pixels.mask, motion in DEFORMING)
    whole = whole_share(pixels.mask) >= WHOLE
    if motion == BREAKING:
        return keeps_area(pixels.mask, BREAKING_AREA)
    if motion in DEFORMING:
        return whole and near > NEAR and far > FAR
    return whole and near > NEAR and far > FAR and keeps_area(pixels.mask, AREA)


def keeps_area(mask: NDArray[np.bool_], limit: float) -> bool:
    """Whether no frame's area is further from the median's than a limit (a share)."""
    areas = mask.sum((1, 2))
    middle = np.median(areas)
    return bool(middle > 0 and np.abs(areas / middle - 1).max() < limit)


def whole_share(mask: NDArray[np.bool_]) -> float:
    """Least share of a frame's object that is in one piece; 0 if a frame has none."""
    return min(_largest_share(frame) for frame in mask)


def _largest_share(frame: NDArray[np.bool_]) -> float:
    if not frame.any():
        return 0.0
    _, _, stats, _ = cv2.connectedComponentsWithStats(frame.astype(np.uint8))
    return float(stats[1:, cv2.CC_STAT_AREA].max() / frame.sum())


def overlaps(mask: NDArray[np.bool_], deforming: bool = False) -> tuple[float, float]:
    """Mean overlap (IoU) with the frame before, and with frames at least FAR_APART away, after the best
    rotation and shift; `deforming`: after the best proportions, too."""
    if not mask.any((1, 2)).all():
        return 0.0, 0.0
    shapes = np.stack([normalised(frame, deforming) for frame in mask])
    turned = np.stack([_turned(shape) for shape in shapes])  # [F,A,S,S]
    last = len(shapes)
    near = [_best_overlap(turned[f - 1], shapes[f]) for f in range(1, last)]
    far = [_best_overlap(turned[e], shapes[f]) for f in range(last) for e in range(f - FAR_APART + 1)]
    return float(np.mean(near)), float(np.mean(far))


def normalised(frame: NDArray[np.bool_], deforming: bool) -> NDArray[np.bool_]:
    """An object [H,W] with its centroid in the middle of a square; `deforming`: as wide as high as well."""
    y, x = np.nonzero(frame)
    centre = np.array([x.mean(), y.mean()])
    linear = np.eye(2)
    if deforming:
        covariance = np.cov(np.stack([x, y])) + 1e-3 * np.eye(2)
        values, vectors = np.linalg.eigh(covariance)
        scale = 8 / np.sqrt(values)  # a std of 8 px on each axis
        linear = vectors @ np.diag(scale) @ vectors.T
    offset = SIDE / 2 - 0.5 - linear @ centre
    warped = cv2.warpAffine(
        frame.astype(np.float32), np.concatenate([linear, offset[:, None]], 1), (SIDE, SIDE)
    )
    return warped > 0.5


def _turned(shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A shape [S,S] at each of the angles: [A,S,S]."""
    middle = (SIDE / 2 - 0.5, SIDE / 2 - 0.5)
    image = shape.astype(np.float32)
    turns = (cv2.getRotationMatrix2D(middle, float(angle), 1.0) for angle in ANGLES)
    return np.stack([cv2.warpAffine(image, turn, (SIDE, SIDE)) > 0.5 for turn in turns])


def _best_overlap(candidates: NDArray[np.bool_], shape: NDArray[np.bool_]) -> float:
    """Largest IoU of a shape [S,S] with candidates [A,S,S]."""
    both = (candidates & shape).sum((1, 2))
    either = (candidates | shape).sum((1, 2))
    return float((both / either).max())
