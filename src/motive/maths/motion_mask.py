"""The motion mask: how much each place and moment of a clip counts, from its optical flow.

W = (M - min M) / (max M - min M + 1e-6) over the whole clip, M the length of the displacement; then to the
latent grid. By parameter, M is that of what the camera does not explain, and the maximum a percentile. Frame
0 has no displacement by contract, so the minimum is 0 and latent frame 0, which sees frame 0 alone, weighs
nothing: it is a still image and shows no motion. This is the paper read literally.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

EPSILON = 1e-6


def motion_mask(
    displacement: Float[Tensor, "F h w"],
    least: float,
    percentile: float,
    time_stride: int,
    size: tuple[int, int],
) -> Float[Tensor, "T H W"]:
    """The mask in [0, 1] on the latent grid `size` (height, width); all zero if nothing reaches `least`.

    `displacement` and `least` in pixels; `least` 0 and `percentile` 100 are the paper.
    """
    scaled = min_max(above_floor(displacement, least), percentile)
    return to_latent_frames(to_grid(scaled, size), time_stride)


def magnitude(flow: Float[Tensor, "F 2 h w"]) -> Float[Tensor, "F h w"]:
    """M = |(dx, dy)|, the paper's motion detection: the length of the displacement, in the flow's unit."""
    return flow.float().norm(dim=1)


def above_floor(displacement: Float[Tensor, "F h w"], least: float) -> Float[Tensor, "F h w"]:
    """Displacement where it reaches `least`, elsewhere 0.

    Without it min-max blows the tracker's jitter on a still clip up to full weights.
    """
    return torch.where(displacement < least, 0.0, displacement)


def min_max(displacement: Float[Tensor, "F h w"], percentile: float = 100.0) -> Float[Tensor, "F h w"]:
    """W: the whole clip scaled to [0, 1]; a constant clip becomes 0.

    1 is reached at a percentile of what moves, so that one wild vector does not dim all others; 100: the
    maximum.
    """
    low = displacement.min()
    moving = displacement[displacement > low]
    if not len(moving):
        return torch.zeros_like(displacement)
    high = moving.kthvalue(max(1, round(percentile / 100 * len(moving)))).values
    # The paper's motion mask: W = (M - min M) / (max M - min M + 1e-6).
    return ((displacement - low) / (high - low + EPSILON)).clamp_max(1)


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


def mean_speed(flow: Float[Tensor, "F 2 h w"], fps: float, from_first: bool = False) -> Float[Tensor, ""]:
    """Mean speed over places and frames but the first, in pixels per second.

    `from_first`: displacements are from frame 0, f frames ago in frame f.
    """
    ago = torch.arange(1, len(flow)) if from_first else torch.ones(len(flow) - 1)
    return (magnitude(flow[1:]) / ago[:, None, None]).mean() * fps


def is_still(displacement: Float[Tensor, "F h w"], least: float) -> bool:
    """Nothing reaches `least`: the mask is empty."""
    return not bool(above_floor(displacement, least).any())
