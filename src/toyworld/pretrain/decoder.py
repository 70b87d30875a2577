"""Trains the tiny VAE's decoder: sharp frames out of a code that is as coarse as a thumbnail.

The code keeps little more than the mean colour of 4x4 pixels. Of this world's plain objects that says almost
all: where an edge runs follows from how it mixes its two colours. The latents get a little noise, so that the
decoder straightens what the transformer draws unevenly.
"""

import logging
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from motive.maths.training import learning_rate, rng_of
from motive.store.checkpoints import read_checkpoint, write_checkpoint
from toyworld.pretrain.frames import WORK, draw_training_clips
from toyworld.pretrain.latents import LATENTS, read_code
from toyworld.tiny_wan import build_vae, set_encoder_to_pca

NUM_CLIPS = 1500
SEED = 5_000_005
STEPS = 4000
BATCH = 16  # frames
PEAK_RATE = 2e-3
WARMUP = 100  # steps
NOISE = 0.25  # largest std, in stds of the latents
KEEP_EVERY = 250  # steps
CHECKPOINT = WORK / "decoder.safetensors"
log = logging.getLogger("motive")


def code_vae() -> Any:
    """The VAE with its encoder set to the code, and a decoder that has seen nothing."""
    statistics = load_file(LATENTS)
    torch.manual_seed(0)
    vae = build_vae(statistics["mean"].tolist(), statistics["std"].tolist())
    set_encoder_to_pca(vae, read_code())
    vae.requires_grad_(False)
    vae.decoder.requires_grad_(True)
    with torch.no_grad():
        # A frame is decoded from its own latent alone: what lies before it counts for nothing.
        for conv in vae.decoder.modules():
            if isinstance(conv, nn.Conv3d) and conv.weight.shape[2] > 1:
                conv.weight[:, :, :-1].zero_()
    return vae


def decode_single_frames(vae: Any) -> None:
    """Let the decoder's causal convolutions see one frame alone: a third of the work."""
    for conv in vae.decoder.modules():
        if isinstance(conv, nn.Conv3d):
            conv.forward = partial(convolve_frame, conv)  # type: ignore[method-assign]


def convolve_frame(conv: nn.Conv3d, x: Tensor, _cache: Tensor | None = None) -> Tensor:
    """The convolution of [B,C,1,h,w], nothing lying before it: its kernel's last moment."""
    padding = [size // 2 for size in conv.kernel_size[1:]]
    return functional.conv2d(x[:, :, 0], conv.weight[:, :, -1], conv.bias, padding=padding)[:, :, None]


def optimizer_of(vae: Any) -> torch.optim.Optimizer:
    """AdamW for the decoder."""
    return torch.optim.AdamW(vae.decoder.parameters(), PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0)


def decoded(vae: Any, z: Float[Tensor, "B C 1 h w"]) -> Float[Tensor, "B 3 1 H W"]:
    """Frames about [-1,1] of latents as the encoder makes them; not clipped, so that every pixel learns."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    return unpatchify(vae.decoder(vae.post_quant_conv(z)), vae.config.patch_size)


def batch_at(step: int, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Float[Tensor, "B 1 1 1 1"]]:
    """Some frames [B,1,H,W,3] of clips [N,F,H,W,3], half the time mirrored, and the std of their noise."""
    rng = rng_of("decoder", step)
    clips = torch.randint(len(frames), (BATCH,), generator=rng)
    moments = torch.randint(frames.shape[1], (BATCH,), generator=rng)
    way = 1 if torch.rand((), generator=rng) < 0.5 else -1
    noise = NOISE * torch.rand(BATCH, 1, 1, 1, 1, generator=rng)
    return frames[clips.numpy(), moments.numpy(), :, ::way][:, None], noise


def train_decoder(steps: int = STEPS) -> None:
    """Train for a number of steps; a second call goes on at the last checkpoint."""
    torch.set_num_threads(1)
    code = read_code()
    vae = code_vae().train()
    decode_single_frames(vae)
    std = float(load_file(LATENTS)["std"][0])
    optimizer = optimizer_of(vae)
    start = read_checkpoint(CHECKPOINT, vae, optimizer)
    drawn = draw_training_clips(NUM_CLIPS, SEED)
    frames = np.stack([clip for clip, _ in tqdm(drawn, total=NUM_CLIPS, desc="frames", unit="clip")])
    progress = tqdm(
        range(start, steps), initial=start, total=steps, desc="decoder", unit="step", mininterval=10
    )
    for step in progress:
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, PEAK_RATE, WARMUP)

        # What the decoder makes of noised latents, against the frames that they are of.
        batch, noise = batch_at(step, frames)
        video = torch.from_numpy(batch.copy()).permute(0, 4, 1, 2, 3) / 127.5 - 1
        z = code.encode(batch)
        rng = rng_of("decoder noise", step)
        error = decoded(vae, z + std * noise * torch.randn(z.shape, generator=rng)) - video
        error.abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        # What people see, and what a kill leaves.
        progress.set_postfix(dB=f"{10 * math.log10(4 / float(error.detach().square().mean())):.1f}")
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == steps:
            write_checkpoint(CHECKPOINT, step + 1, vae, optimizer)
    log.info("the VAE's decoder is in %s; next: python -m toyworld pretrain transformer", CHECKPOINT)


def trained_vae() -> Any:
    """The VAE that `train_decoder` left."""
    vae = code_vae()
    if not read_checkpoint(CHECKPOINT, vae, optimizer_of(vae)):
        raise ValueError(f"{CHECKPOINT} is missing: run `python -m toyworld pretrain decoder` first")
    return vae.eval()
