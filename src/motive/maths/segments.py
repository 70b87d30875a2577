"""Segments of a clip: its motion mask, cut into ranges of latent frames."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, zeros_like


def segment_ranges(num_latent_frames: int, num_segments: int) -> list[range]:
    """Latent frames of each segment, as equal as they can be; more segments than frames leave some empty."""
    return [range(*pair) for pair in pairwise(_borders(num_latent_frames, num_segments))]


def _borders(num_latent_frames: int, num_segments: int) -> list[int]:
    return [round(s * num_latent_frames / num_segments) for s in range(num_segments + 1)]


def segment_seconds(num_frames: int, stride: int, num_segments: int, fps: float) -> list[float]:
    """Where each segment of a clip begins, in seconds, and where the last one ends: S+1 numbers.

    The first latent frame is one frame of the clip, each other one `stride` of them.
    """
    borders = _borders(1 + (num_frames - 1) // stride, num_segments)
    return [max(0, 1 + (t - 1) * stride) / fps for t in borders]


def segment_masks(mask: Float[Tensor, "T h w"], num_segments: int) -> Float[Tensor, "S T h w"]:
    """The mask in each segment and zero outside: they add up to it, and so do losses and gradients."""
    masks = zeros_like(mask).expand(num_segments, *mask.shape).clone()
    for segment, frames in zip(masks, segment_ranges(len(mask), num_segments), strict=True):
        segment[frames.start : frames.stop] = mask[frames.start : frames.stop]
    return masks
