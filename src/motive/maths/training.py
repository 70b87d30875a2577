"""What every training of a backbone shares: noise levels, plain loss, learning rate, order of the data."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from motive.maths.denoising import (
    motion_weighted_loss,
    noised,
    shifted,
    target_velocity,
    with_clean_first_frame,
)
from motive.maths.seeds import seed_of

Velocity = Callable[[Tensor, Tensor], Tensor]


def rng_of(*names: object) -> torch.Generator:
    """A generator that depends on these names alone: step k of a resumed run draws what it always draws."""
    return torch.Generator().manual_seed(seed_of(*names))


def training_loss(
    velocity: Velocity,
    z: Float[Tensor, "B C T h w"],
    shift: float,
    rng: torch.Generator,
    first_frame: bool = False,
) -> Float[Tensor, ""]:
    """The ordinary flow-matching loss at logit-normal noise levels (as the Wan authors train)."""
    u = torch.sigmoid(torch.randn(len(z), generator=rng))
    sigma = shifted(u, shift).to(z.device)
    eps = torch.randn(z.shape, generator=rng).to(z.device)
    return plain_loss(velocity, z, eps, sigma, first_frame)


def plain_loss(
    velocity: Velocity,
    z: Float[Tensor, "B C T h w"],
    eps: Float[Tensor, "B C T h w"],
    sigma: Float[Tensor, "B"],
    first_frame: bool = False,
) -> Float[Tensor, ""]:
    """The flow-matching loss at these noises and noise levels, mean over clips and predicted frames.

    first_frame: `velocity` sees a first frame without noise, and predicts the others.
    """
    z_sigma = noised(z, eps, sigma.view(-1, 1, 1, 1, 1))  # [B,C,T,h,w]
    if first_frame:
        z_sigma = with_clean_first_frame(z_sigma, z)
    v = velocity(z_sigma, sigma)
    first = 1 if first_frame else 0
    target = target_velocity(z, eps)
    W = torch.ones_like(z[:, 0, first:])  # [B,T,h,w]
    return motion_weighted_loss(v[:, :, first:], target[:, :, first:], W).mean()


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batch_rows(step: int, batch: int, num_rows: int, seed: int) -> Int[Tensor, "batch"]:
    """The rows of a step's batch: epoch after epoch of shuffled rows, each row once an epoch."""
    places = range(step * batch, (step + 1) * batch)  # in the sequence of all epochs
    epochs = sorted({place // num_rows for place in places})
    order = {epoch: torch.randperm(num_rows, generator=rng_of("epoch", seed, epoch)) for epoch in epochs}
    return torch.stack([order[place // num_rows][place % num_rows] for place in places])
