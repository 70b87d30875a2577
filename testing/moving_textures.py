"""Frames whose optical flow is known: a texture that moves as a whole, a disc before a texture."""

import cv2
import numpy as np


def texture(rng: np.random.Generator, size: int, blur: float) -> np.ndarray:
    image = cv2.GaussianBlur(rng.random((size, size, 3), np.float32), (0, 0), blur)
    return (image - image.min()) / (image.max() - image.min()) * 255


def shifted(step: tuple[float, float], num_frames: int = 4, size: int = 64, seed: int = 0) -> np.ndarray:
    """A texture that moves as a whole by `step` pixels (x, y) a frame."""
    image = texture(np.random.default_rng(seed), 2 * size, 3 * size / 64)
    maps = [
        np.array([[1, 0, f * step[0] - size / 2], [0, 1, f * step[1] - size / 2]]) for f in range(num_frames)
    ]
    return np.stack([cv2.warpAffine(image, map_, (size, size)) for map_ in maps]).astype(np.uint8)


def disc(step: np.ndarray, seed: int, radius: float = 11) -> tuple[np.ndarray, np.ndarray]:
    """Two frames of a textured disc moving over a texture, and where it is in the first."""
    rng = np.random.default_rng(seed)
    ground = texture(rng, 64, 6)
    skin = texture(rng, 192, 2.5)
    start = rng.uniform(24, 40, 2)
    before = disc_at(start, radius)
    after = disc_at(start + step, radius)
    frames = [
        ground * (1 - before) + skin_at(start, skin) * before,
        ground * (1 - after) + skin_at(start + step, skin) * after,
    ]
    return np.stack(frames).astype(np.uint8), before[..., 0] > 0.5


def disc_at(centre: np.ndarray, radius: float) -> np.ndarray:
    """How much of each pixel the disc covers: [64,64,1]; `centre` is (x, y)."""
    y, x = np.mgrid[:64, :64, :1][:2]
    return np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)


def skin_at(centre: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The disc's texture, which moves with it: [64,64,3]."""
    return cv2.warpAffine(skin, np.array([[1, 0, centre[0] - 96], [0, 1, centre[1] - 96]]), (64, 64))
