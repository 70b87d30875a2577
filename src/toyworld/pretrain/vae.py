"""Trains the tiny VAE so that it keeps what moves.

Whole frames, short runs of them; L1 on pixels and on their change in time, both weighted towards the moving
region: a plain loss smears moving objects away, because they are a small share of the frame.
"""

import logging
import math
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from motive.maths.training import learning_rate
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from toyworld.pretrain.frames import NUM_FRAMES, WORK, draw_frames
from toyworld.tiny_wan import build_vae, patches, start_as_pca

NUM_CLIPS = 2000
PHYSICAL_SHARE = 0.6
SEED = 1_000_001
STEPS = 1500
BATCH = 4
WINDOW = 9  # frames
PEAK_RATE = 2e-4
WARMUP = 100  # steps
MOVING_WEIGHT = 4.0
KL_WEIGHT = 1e-5
KEEP_EVERY = 250  # steps
CHECKPOINT = WORK / "vae.safetensors"
log = logging.getLogger("motive")


def batch_at(step: int, frames: np.ndarray, moving: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of random clips, mirrored half the time: video [B,3,F,H,W] in [-1,1] and weight [B,1,F,H,W]."""
    rng = np.random.default_rng([SEED, step])
    clips = rng.integers(len(frames), size=BATCH)
    starts = 4 * rng.integers((NUM_FRAMES - WINDOW) // 4 + 1, size=BATCH)
    flips = rng.choice([-1, 1], size=BATCH)

    def windows(clip_arrays: np.ndarray) -> torch.Tensor:
        """[B,WINDOW,H,W,...] of [N,F,H,W,...]."""
        rows = [clip_arrays[clips[b], starts[b] : starts[b] + WINDOW, :, :: flips[b]] for b in range(BATCH)]
        return torch.from_numpy(np.stack(rows))

    video = windows(frames).permute(0, 4, 1, 2, 3) / 127.5 - 1
    weight = 1 + MOVING_WEIGHT * windows(moving)[:, None].float()
    return video.contiguous(), weight


def loss_of(vae: Any, video: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted L1 of pixels and of their change, plus a touch of KL: (loss, plain squared error)."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(video).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
    error = (decoded - video) * weight
    change = (decoded.diff(dim=2) - video.diff(dim=2)) * weight[:, :, 1:]
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return error.abs().mean() + change.abs().mean() + KL_WEIGHT * kl, (decoded - video).pow(2).mean()


def train_vae(steps: int = STEPS) -> None:
    """Train for a number of steps; a second call goes on at the last checkpoint."""
    drawn = draw_frames("vae", NUM_CLIPS, PHYSICAL_SHARE, SEED)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    vae = build_vae().train()
    start_as_pca(vae, patches(drawn.frames[:200]))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    start = read_checkpoint(CHECKPOINT, vae, optimizer)
    progress = tqdm(range(start, steps), initial=start, total=steps, desc="vae", unit="step", mininterval=10)
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, PEAK_RATE, WARMUP)
        torch.manual_seed(step)
        loss, mse = loss_of(vae, *batch_at(step, drawn.frames, drawn.moving))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss:.4f}", psnr=f"{10 * math.log10(4 / float(mse.detach())):.1f}")
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == steps:
            write_checkpoint(CHECKPOINT, step + 1, vae, optimizer)
    log.info("the VAE is in %s; next: python -m toyworld pretrain latents", CHECKPOINT)
