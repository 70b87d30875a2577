"""Flow matching: noising, target, and the (motion-weighted) loss of Motive.

Symbols: z latent [C,T,h,w], eps noise, sigma noise level in [0,1], W motion mask [T,h,w], v velocity.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from motive.maths.seeds import seed_of


def shifted(u: Tensor, shift: float) -> Tensor:
    """Noise levels of a schedule with a shift: sigma = s*u / (1 + (s-1)*u)."""
    return shift * u / (1 + (shift - 1) * u)


def common_noise(seed: int, shape: tuple[int, int, int, int]) -> Float[Tensor, "C T h w"]:
    """The one noise that all clips share, drawn frame by frame: a longer clip only adds frames."""
    channels, num_frames, height, width = shape
    frames = []
    for k in range(num_frames):
        rng = torch.Generator().manual_seed(seed_of("noise", seed, k))
        frames.append(torch.randn(channels, height, width, generator=rng))
    return torch.stack(frames, dim=1)


def noised(z: Tensor, eps: Tensor, sigma: float | Tensor) -> Tensor:
    """The paper's flow matching: z_sigma = (1 - sigma) z + sigma eps."""
    return (1 - sigma) * z + sigma * eps


def with_clean_first_frame(
    z_sigma: Float[Tensor, "*B C T h w"], z: Float[Tensor, "*B C T h w"]
) -> Float[Tensor, "*B C T h w"]:
    """Noised latents whose first frame is the clean one, as a backbone sees that is given a first frame."""
    return torch.cat([z[..., :1, :, :], z_sigma[..., 1:, :, :]], dim=-3)


def without_first_frame(W: Float[Tensor, "*B T h w"]) -> Float[Tensor, "*B T h w"]:
    """Weights of which the first frame, where it is given, has none: nothing of it is predicted."""
    return torch.cat([torch.zeros_like(W[..., :1, :, :]), W[..., 1:, :, :]], dim=-3)


def target_velocity(z: Tensor, eps: Tensor) -> Tensor:
    """The paper's flow matching: the model is to predict v = eps - z."""
    return eps - z


def motion_weighted_loss(
    v: Float[Tensor, "*B C T h w"], target: Float[Tensor, "*B C T h w"], W: Float[Tensor, "*B T h w"]
) -> Float[Tensor, "*B"]:
    """Mean over positions and channels of W * (v - target)^2, one number a clip; W = 1 is the plain loss."""
    # The paper's motion-weighted loss: L_mot = mean of W * (v - target)^2.
    error = (v - target).float().pow(2)  # [*B,C,T,h,w]
    weighted = W.float().unsqueeze(-4) * error
    return weighted.mean(dim=(-4, -3, -2, -1))
