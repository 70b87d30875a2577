"""The motion mask: how much each place and moment of a clip counts, from its optical flow.

W = (M - min M) / (max M - min M + 1e-6) over the whole clip, M the length of the displacement; then to the
latent grid. Frame 0 has no displacement by contract, so the minimum is 0 and latent frame 0, which sees frame
0 alone, weighs nothing: it is a still picture and shows no motion. This is the paper read literally.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

EPSILON = 1e-6


def motion_mask(
    flow: Float[Tensor, "F 2 h w"], fps: float, floor: float, time_stride: int, size: tuple[int, int]
) -> Float[Tensor, "T H W"]:
    """The mask in [0, 1] on the latent grid `size` (height, width); all zero if nothing reaches the floor.

    `flow` is in pixels a frame, `floor` in pixels per second; floor 0 is the paper.
    """
    moving = above_floor(magnitude(flow), fps, floor)
    return to_latent_frames(to_grid(min_max(moving), size), time_stride)


def magnitude(flow: Float[Tensor, "F 2 h w"]) -> Float[Tensor, "F h w"]:
    """M: the length of the displacement, in the flow's unit."""
    return flow.float().norm(dim=1)


def above_floor(displacement: Float[Tensor, "F h w"], fps: float, floor: float) -> Float[Tensor, "F h w"]:
    """Displacement where its speed reaches the floor in pixels per second, elsewhere 0.

    Without it min-max blows the tracker's jitter on a still clip up to full weights.
    """
    return torch.where(displacement * fps < floor, 0.0, displacement)


def min_max(displacement: Float[Tensor, "F h w"]) -> Float[Tensor, "F h w"]:
    """W: the whole clip scaled to [0, 1]; a constant clip becomes 0."""
    low, high = displacement.min(), displacement.max()
    return (displacement - low) / (high - low + EPSILON)


def to_grid(weights: Float[Tensor, "F h w"], size: tuple[int, int]) -> Float[Tensor, "F H W"]:
    """Bilinear to the latent grid; at half the size this is the mean of 2x2 cells."""
    return interpolate(weights[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def to_latent_frames(weights: Float[Tensor, "F H W"], stride: int) -> Float[Tensor, "T H W"]:
    """Mean over what each latent frame of a causal VAE sees: frame 0; then frames s(k-1)+1 .. sk for k >= 1.

    Raises:
        ValueError: frames would be left over.
    """
    following = len(weights) - 1
    if following % stride:
        raise ValueError(
            f"clips.num_frames is {len(weights)}, but the model takes one and then {stride} at once: "
            f"use {following // stride * stride + 1} or {-(-following // stride) * stride + 1}"
        )
    return torch.cat([weights[:1], weights[1:].unflatten(0, (following // stride, stride)).mean(1)])


def mean_speed(flow: Float[Tensor, "F 2 h w"], fps: float) -> Float[Tensor, ""]:
    """Mean displacement over places and frames but the first, in pixels per second."""
    return magnitude(flow[1:]).mean() * fps


def is_still(flow: Float[Tensor, "F 2 h w"], fps: float, floor: float) -> bool:
    """Nothing reaches the floor: the mask is empty."""
    return not bool(above_floor(magnitude(flow), fps, floor).any())
