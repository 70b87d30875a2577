"""Measures a tiny VAE on unseen clips: does it keep what moves? Beside it a linear PCA of the same rate."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from motive.models import backbones
from motive.trackers.interface import dis
from toyworld.drawing import draw_clip
from toyworld.motions import MOTIONS
from toyworld.pretrain.frames import FPS, NUM_FRAMES, moving_region
from toyworld.scenes import sample_scene

SEED = 3_000_003  # of clips that no training has seen


@dataclass(frozen=True)
class Unseen:
    """Frames uint8 [N,F,H,W,3] and where they move bool [N,F,H,W]: physical motions under a static camera."""

    frames: np.ndarray
    moving: np.ndarray
    captions: list[str]


def draw_unseen(num_clips: int) -> Unseen:
    """Clips evenly of the ten motions."""
    scenes = [sample_scene(np.random.default_rng([SEED, i]), MOTIONS[i % 10]) for i in range(num_clips)]
    clips = [draw_clip(scene, NUM_FRAMES, FPS) for scene in scenes]
    return Unseen(
        frames=np.stack([clip.frames for clip in clips]),
        moving=np.stack([moving_region(clip.mask, clip.flow) for clip in clips]),
        captions=[scene.caption for scene in scenes],
    )


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> float:
    """Of 8-bit frames [N,F,H,W,3], in dB, within a region [N,F,H,W] or everywhere."""
    error = (a.astype(np.float32) - b) ** 2
    return float(10 * np.log10(255**2 / (error if where is None else error[where]).mean()))


def flow_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of the optical flow of two sets of clips [N,F,H,W,3], over all pixels.

    NaN if nothing moves in one of them.
    """
    flow_a = np.stack([dis(clip, "medium")[1:] for clip in a]).ravel()
    flow_b = np.stack([dis(clip, "medium")[1:] for clip in b]).ravel()
    if not (flow_a.any() and flow_b.any()):
        return float("nan")
    return float(np.corrcoef(flow_a, flow_b)[0, 1])


def measures(name: str, unseen: Unseen, reconstructed: np.ndarray) -> dict[str, float]:
    """Whole-frame and moving-region PSNR, and flow correlation, under keys that begin with a name."""
    return {
        f"{name}_psnr": psnr(unseen.frames, reconstructed),
        f"{name}_moving_psnr": psnr(unseen.frames, reconstructed, unseen.moving),
        f"{name}_flow_correlation": flow_correlation(unseen.frames, reconstructed),
    }


def through_vae(vae: object, frames: np.ndarray) -> np.ndarray:
    """Encode and decode clips [N,F,H,W,3]."""
    return np.stack([backbones.decode_video(vae, backbones.encode_video(vae, clip)) for clip in frames])


def held_still(frames: np.ndarray) -> np.ndarray:
    """Each clip's median frame, held: what a codec without motion would score."""
    return np.broadcast_to(np.median(frames, axis=1, keepdims=True), frames.shape).astype(np.uint8)


def through_pca(
    train: np.ndarray, frames: np.ndarray, strides: tuple[int, int], num_channels: int
) -> np.ndarray:
    """Clips through a PCA of patches of (time, space) strides, fitted on other clips.

    Frame 0 is a patch of its own, repeated in time, as in a causal VAE.
    """
    patches = torch.cat([_patches(clip, *strides) for clip in train])
    mean = patches.mean(0)
    basis = torch.linalg.svd((patches - mean).T @ (patches - mean))[0][:, :num_channels]
    rows = [(_patches(clip, *strides) - mean) @ basis @ basis.T + mean for clip in frames]
    return np.stack([_unpatch(row, clip.shape, *strides) for row, clip in zip(rows, frames, strict=True)])


def _patches(clip: np.ndarray, time: int, space: int) -> Tensor:
    """Frames [F,H,W,3] to rows, one a patch."""
    frames = torch.from_numpy(clip.copy()).float()
    frames = torch.cat([frames[:1].expand(time - 1, -1, -1, -1), frames])
    t = frames.shape[0] // time
    h = frames.shape[1] // space
    w = frames.shape[2] // space
    return frames.view(t, time, h, space, w, space, 3).permute(0, 2, 4, 1, 3, 5, 6).reshape(t * h * w, -1)


def _unpatch(rows: Tensor, shape: tuple[int, ...], time: int, space: int) -> np.ndarray:
    t = (shape[0] + time - 1) // time
    h = shape[1] // space
    w = shape[2] // space
    frames = (
        rows.view(t, h, w, time, space, space, 3).permute(0, 3, 1, 4, 2, 5, 6).reshape(t * time, *shape[1:])
    )
    return frames[time - 1 :].clamp(0, 255).round().byte().numpy()
