"""The code of the tiny VAE, and the latents of the clips that the tiny transformer learns from.

The VAE is linear (`tiny_wan.set_to_pca`), so its latents are one matrix product of the frames' patches.
"""

import logging

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from motive.store.files import write_bytes, write_tensors
from toyworld.pretrain.frames import WORK, draw_training_clips
from toyworld.tiny_wan import Pca, fit_pca, patches

NUM_CODE_CLIPS = 1000  # that the code is fitted on
CODE_SEED = 1_000_001
NUM_CLIPS = 16_000  # that the transformer learns from
SEED = 2_000_002
CODE = WORK / "code.safetensors"
LATENTS = WORK / "latents.safetensors"
CAPTIONS = WORK / "captions.txt"
log = logging.getLogger("motive")


def fit_code() -> None:
    """Fit the VAE's linear code."""
    torch.set_num_threads(1)
    drawn = tqdm(
        draw_training_clips(NUM_CODE_CLIPS, CODE_SEED), total=NUM_CODE_CLIPS, desc="code", unit="clip"
    )
    code = fit_pca(patches(np.stack([frames for frames, _ in drawn])))
    write_tensors(CODE, {name: tensor.contiguous() for name, tensor in code._asdict().items()})
    log.info("the VAE's code is in %s; next: python -m toyworld pretrain latents", CODE)


def read_code() -> Pca:
    """What `fit_code` wrote."""
    if not CODE.is_file():
        raise ValueError(f"{CODE} is missing: run `python -m toyworld pretrain vae` first")
    return Pca(**load_file(CODE))


def encode_latents() -> None:
    """Draw the transformer's clips and encode them: latents of overall variance 1, and their statistics."""
    code = read_code()
    torch.set_num_threads(1)
    latents = []
    captions = []
    drawn = draw_training_clips(NUM_CLIPS, SEED)
    for frames, caption in tqdm(drawn, total=NUM_CLIPS, desc="latents", unit="clip"):
        latents.append(code.encode(frames[None])[0].half())
        captions.append(caption)
    z = torch.stack(latents)  # [N,C,T,h,w]

    # One scale for all channels: the code has scaled them against each other.
    mean = z.float().mean((0, 2, 3, 4))
    variance = z.float().var((0, 2, 3, 4))
    std = variance.mean().sqrt().expand(len(mean)).contiguous()
    z.sub_(mean.view(-1, 1, 1, 1)).div_(std.view(-1, 1, 1, 1))
    save_file({"latent": z, "mean": mean, "std": std}, LATENTS)
    write_bytes(CAPTIONS, "".join(f"{caption}\n" for caption in captions).encode())
    log.info("latents are in %s; next: python -m toyworld pretrain decoder", LATENTS)
