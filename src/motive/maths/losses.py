"""Denoising losses of a model over a grid of noise levels and noises, and how two models differ in them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motive.maths.denoising import (
    common_noise,
    motion_weighted_loss,
    noised,
    target_velocity,
    with_clean_first_frame,
)
from motive.maths.statistics import bootstrap_interval


@torch.no_grad()
def loss_grid(
    predict: Callable[[Tensor, Tensor], Tensor],
    z: Float[Tensor, "C T h w"],
    W: Float[Tensor, "T h w"],
    sigmas: Sequence[float],
    noise_seeds: Sequence[int],
    clean_first_frame: bool = False,
) -> dict[str, Float[Tensor, "sigmas seeds"]]:
    """`motion` (weighted by W) and `plain` losses of a clip; `predict` is the velocity at (noised, sigma).

    clean_first_frame: it is given without noise, and not predicted.
    """
    sigma = torch.tensor(sigmas, device=z.device)
    first = 1 if clean_first_frame else 0
    W = W[first:]
    motion: list[Tensor] = []  # of each noise seed: [sigmas]
    plain: list[Tensor] = []
    for seed in noise_seeds:
        v, target = _prediction_and_target(predict, z, sigma, seed, clean_first_frame)
        v = v[:, :, first:]
        target = target[:, :, first:]
        motion.append(motion_weighted_loss(v, target, W.expand(len(v), *W.shape)))
        plain.append(motion_weighted_loss(v, target, torch.ones_like(W).expand(len(v), *W.shape)))
    return {"motion": torch.stack(motion, dim=1).cpu(), "plain": torch.stack(plain, dim=1).cpu()}


def _prediction_and_target(
    predict: Callable[[Tensor, Tensor], Tensor],
    z: Float[Tensor, "C T h w"],
    sigma: Float[Tensor, "sigmas"],
    seed: int,
    clean_first_frame: bool,
) -> tuple[Float[Tensor, "sigmas C T h w"], Float[Tensor, "sigmas C T h w"]]:
    """The velocity that a model predicts at each noise level, and the true one, with the noise of a seed."""
    C, T, h, w = z.shape
    eps = common_noise(seed, (C, T, h, w)).to(z.device)
    z_sigma = noised(z, eps, sigma.view(-1, 1, 1, 1, 1))
    if clean_first_frame:
        z_sigma = with_clean_first_frame(z_sigma, z.expand_as(z_sigma))
    v = predict(z_sigma, sigma)
    return v, target_velocity(z, eps).expand_as(v)


def loss_changes(
    base: Float[np.ndarray, "n"], tuned: Float[np.ndarray, "n"], motions: list[str], seed: int
) -> dict[str, float]:
    """Mean motion losses of both models on the same clips, and the change: its 95 % interval, and by motion.

    A clip whose motion is "" counts, but for no motion.
    """
    change = tuned - base
    metrics = {
        "motion_loss_base": float(base.mean()),
        "motion_loss_tuned": float(tuned.mean()),
        "improved_fraction": float((change < 0).mean()),
        "motion_loss_change": float(change.mean()),
    }
    metrics["motion_loss_change_low"], metrics["motion_loss_change_high"] = bootstrap_interval(change, seed)
    for motion in sorted({*motions} - {""}):
        of_motion = change[np.array(motions) == motion]
        metrics[f"motion_loss_change_{motion}"] = float(of_motion.mean())
    return metrics
