"""Denoising losses of a model over a grid of noise levels and noises, and how two models differ in them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.maths.statistics import bootstrap_interval


@torch.no_grad()
def loss_grid(
    predict: Callable[[Tensor, Tensor], Tensor],
    z: Float[Tensor, "C T h w"],
    W: Float[Tensor, "T h w"],
    sigmas: Sequence[float],
    noise_seeds: Sequence[int],
) -> dict[str, Float[Tensor, "sigmas seeds"]]:
    """`motion` (weighted by W) and `plain` losses of a clip; `predict` is the velocity at (noised, sigma)."""
    channels, num_frames, height, width = z.shape
    sigma = torch.tensor(sigmas, device=z.device)
    motion: list[Tensor] = []  # of each noise seed: [sigmas]
    plain: list[Tensor] = []
    for seed in noise_seeds:
        eps = common_noise(seed, (channels, num_frames, height, width)).to(z.device)
        v = predict(noised(z, eps, sigma.view(-1, 1, 1, 1, 1)), sigma)  # [sigmas,C,T,h,w]
        target = target_velocity(z, eps).expand_as(v)
        motion.append(motion_weighted_loss(v, target, W.expand(len(v), *W.shape)))
        plain.append(motion_weighted_loss(v, target, torch.ones_like(W).expand(len(v), *W.shape)))
    return {"motion": torch.stack(motion, dim=1).cpu(), "plain": torch.stack(plain, dim=1).cpu()}


def loss_changes(
    base: Float[np.ndarray, "n"], tuned: Float[np.ndarray, "n"], motions: list[str], seed: int
) -> dict[str, float]:
    """Mean motion losses of both models on the same clips, and the change: its 95 % interval, and by motion.

    A clip whose motion is "" counts, but for no motion.
    """
    change = tuned - base
    low, high = bootstrap_interval(change, seed)
    metrics = {
        "motion_loss_base": float(base.mean()),
        "motion_loss_tuned": float(tuned.mean()),
        "improved_fraction": float((change < 0).mean()),
        "motion_loss_change": float(change.mean()),
        "motion_loss_change_low": low,
        "motion_loss_change_high": high,
    }
    for motion in sorted({*motions} - {""}):
        shows_it = np.array(motions) == motion
        metrics[f"motion_loss_change_{motion}"] = float(change[shows_it].mean())
    return metrics
