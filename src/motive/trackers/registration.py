"""One small grey image laid over another: the direct, robust estimate of how the whole frame moved.

Inverse compositional Gauss-Newton (Baker, Matthews 2004). A residual is divided by the local contrast, so
that it is a distance in pixels: every place counts by its area and a textured object does not outvote a
smooth wall. A Geman-McClure weight that narrows from step to step lets go of what moves otherwise.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

SHORT = 128  # pixels of the small image's shorter side ...
LOOKS = 43  # ... of which about so many are looked at
NOISE = 1.5  # grey levels of 255 that mean nothing, in an image blurred by one pixel
EDGE = 0.15  # share of the shorter side that counts as edge; what is farther in ...
INSIDE = 0.5  # ... weighs so much: objects stand in the middle
TOLERANCES = (1.5, 0.8, 0.45)  # small pixels, step by step
AGREES = 0.5  # small pixels
FREEDOM = {"translation": 2, "similarity": 4, "homography": 8}  # how many numbers a model has

Grey = UInt8[np.ndarray, "H W"]
Small = Float32[np.ndarray, "h w"]
Seen = Float32[np.ndarray, "y x"]  # of its pixels, those that are looked at
Matrix = Float[np.ndarray, "3 3"]


class Warp(NamedTuple):
    """Where places go (in half short sides from the centre), and how many grey levels brighter it became."""

    matrix: Matrix
    light: float = 0.0


class Misfit(NamedTuple):
    """How badly each place fits, in [0,1), and where both images have one."""

    values: Seen
    overlap: Bool[np.ndarray, "y x"]


STILL = Warp(np.eye(3))


def small(grey: Grey) -> Small:
    """Blurred, and shrunk to a shorter side of about 128 pixels if it is longer."""
    return cv2.GaussianBlur(shrunk(grey, SHORT).astype(np.float32), (0, 0), 1.0)


def shrunk(grey: np.ndarray, short: int) -> np.ndarray:
    """By the whole number (that is fast) that brings the shorter side nearest to so many pixels."""
    times = max(1, round(min(grey.shape) / short))
    size = [side // times for side in grey.shape[::-1]]
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if times > 1 else grey


class Base:
    """A small image that others are laid over."""

    def __init__(self, image: Small) -> None:
        self.image = image
        height, width = image.shape
        self.half = min(height, width) / 2
        # pixels -> half short sides from the centre
        corner = [[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, self.half]]
        self._inward = np.array(corner) / self.half
        self._outward = np.linalg.inv(self._inward)
        self._step = max(1, round(min(height, width) / LOOKS))
        self._from_seen = self._inward @ np.diag([self._step, self._step, 1])
        dx = self._seen(cv2.Scharr(image, cv2.CV_32F, 1, 0, scale=1 / 32))
        dy = self._seen(cv2.Scharr(image, cv2.CV_32F, 0, 1, scale=1 / 32))
        self._contrast = np.sqrt(dx * dx + dy * dy + NOISE**2)
        self._effects = torch.from_numpy(self._unit_effects(dx, dy))
        self._weight = self._seen(_edge_weight(height, width))

    def _unit_effects(self, dx: Seen, dy: Seen) -> Float32[np.ndarray, "places 9"]:
        """What a unit of each number of a model does to the grey level of each place."""
        x = self._seen(_from_centre(self.image.shape[1], self.half)[None])
        y = self._seen(_from_centre(self.image.shape[0], self.half)[:, None])
        radial = dx * x + dy * y
        effects = [
            np.ones_like(dx),  # light
            dx,  # shift
            dy,
            radial,  # zoom
            dy * x - dx * y,  # roll
            dx * x - dy * y,  # stretch
            dx * y + dy * x,  # shear
            radial * x,  # perspective
            radial * y,
        ]
        return np.stack(effects, -1).reshape(-1, 9)

    def _seen(self, values: np.ndarray) -> np.ndarray:
        return values[:: self._step, :: self._step]

    def still(self, after: Small) -> Warp:
        """No motion, but the change of light of most places."""
        return Warp(np.eye(3), float(np.median(self._gap(after, STILL)[0])))

    def fit(self, after: Small, model: str, start: Warp, keep: np.ndarray | float = 1.0) -> Warp | None:
        """The warp of a model that lays `after` over this image; None if it runs away."""
        warp = start
        tolerances = TOLERANCES if model == "similarity" else TOLERANCES[1:]  # the others start from one
        for tolerance in tolerances:
            step = self._solve(after, warp, self._effects[:, : 1 + FREEDOM[model]], tolerance, keep)
            matrix = warp.matrix @ np.linalg.inv(_moved(*step[1:] / self.half))
            warp = Warp(matrix / matrix[2, 2], warp.light + float(step[0]))
            if np.abs(step).max() < 0.02:
                break
        sane = np.isfinite(warp.matrix).all() and 0.5 < np.linalg.det(warp.matrix[:2, :2]) < 2
        return warp if sane else None

    def _solve(
        self,
        after: Small,
        warp: Warp,
        effects: Float32[torch.Tensor, "places numbers"],
        tolerance: float,
        keep: np.ndarray | float,
    ) -> Float[np.ndarray, "numbers"]:
        """One Gauss-Newton step from a warp: the normal equations of the weighted gap, slightly damped."""
        gap, overlap = self._gap(after, warp)
        distance = gap / self._contrast
        weight = keep * self._weight * overlap / (self._contrast * (1 + (distance / tolerance) ** 2)) ** 2
        weighted = effects.mul(torch.from_numpy(weight.reshape(-1, 1))).T
        normal = (weighted @ effects).double().numpy()
        normal += (1e-3 + 1e-4 * normal.trace() / len(normal)) * np.eye(len(normal))
        return np.linalg.solve(normal, (weighted @ torch.from_numpy(gap.ravel())).numpy())

    def _gap(self, after: Small, warp: Warp) -> tuple[Seen, Bool[np.ndarray, "y x"]]:
        """Grey levels by which `after`, laid over this image, differs from it; and where it reaches."""
        seen = self._seen(self.image)
        matrix = self._outward @ warp.matrix @ self._from_seen
        options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderValue": -1e4}
        laid = cv2.warpPerspective(after, matrix, seen.shape[::-1], **options)
        return laid - seen - np.float32(warp.light), laid > -1e3

    def misfit(self, after: Small, warp: Warp) -> Misfit:
        """How badly each place fits under a warp."""
        gap, overlap = self._gap(after, warp)
        squared = (gap / self._contrast / AGREES) ** 2
        return Misfit(squared / (1 + squared), overlap)

    def shift(self, after: Small) -> Matrix:
        """The translation that correlates best, as a first guess at any distance."""
        images = [shrunk(image, SHORT // 2) for image in (self.image, after)]
        if images[0] is self.image:  # OpenCV multiplies the window into what it is given
            images = [image.copy() for image in images]
        window = cv2.createHanningWindow(images[0].shape[::-1], cv2.CV_32F)
        (right, down), _ = cv2.phaseCorrelate(images[0], images[1], window)
        half = min(images[0].shape) / 2
        return np.array([[1, 0, right / half], [0, 1, down / half], [0, 0, 1]])

    def to_pixels(self, matrix: Matrix, scale: float) -> Matrix:
        """A warp's matrix on the pixels of a frame that is `scale` times larger."""
        enlarge = _enlarge(scale)
        moved = enlarge @ self._outward @ matrix @ self._inward @ np.linalg.inv(enlarge)
        return moved / moved[2, 2]

    def from_pixels(self, matrix: Matrix, scale: float) -> Matrix:
        """The reverse of `to_pixels`."""
        enlarge = _enlarge(scale)
        moved = self._inward @ np.linalg.inv(enlarge) @ matrix @ enlarge @ self._outward
        return moved / moved[2, 2]


def _from_centre(count: int, half: float) -> Float32[np.ndarray, "n"]:
    """Where pixels lie along a side, in half short sides from the centre."""
    return (np.arange(count, dtype=np.float32) - (count - 1) / 2) / half


def _edge_weight(height: int, width: int) -> Small:
    edge = max(1, round(EDGE * min(height, width)))
    weight = np.ones((height, width), np.float32)
    weight[edge:-edge, edge:-edge] = INSIDE
    return weight


def _moved(
    right: float,
    down: float,
    zoom: float = 0.0,
    roll: float = 0.0,
    stretch: float = 0.0,
    shear: float = 0.0,
    perspective_x: float = 0.0,
    perspective_y: float = 0.0,
) -> Matrix:
    """The matrix of a model's numbers."""
    return np.array(
        [
            [1 + zoom + stretch, shear - roll, right],
            [shear + roll, 1 + zoom - stretch, down],
            [-perspective_x, -perspective_y, 1],
        ]
    )


def _enlarge(scale: float) -> Matrix:
    """Pixel indices of the small image to those of the large one: centres, not corners, are whole
    numbers."""
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
