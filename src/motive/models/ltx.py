"""LTX-Video, text to video: a `Backbone` (families.py)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.models.experts import NUM_TRAIN_TIMESTEPS
from motive.models.first_frame import FirstFrame, Kind

IMAGE_PIPELINE: str = ""  # not here yet
TIME = 8  # frames that a latent position spans, in all versions ...
SPACE = 32  # ... and pixels


def strides(vae: Any) -> tuple[int, int]:
    """As its config says; else every block that scales halves both time and space."""
    halved = 2 ** sum(vae["spatio_temporal_scaling"])
    time = vae.get("temporal_compression_ratio") or vae["patch_size_t"] * halved
    space = vae.get("spatial_compression_ratio") or vae["patch_size"] * halved
    return time, space


def fitting(
    vae: dict[str, Any], transformer: dict[str, Any], strides: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Its patches are single latent positions; LTXPipeline asks for 32 pixels."""
    time, space = strides
    return vae["latent_channels"], time, math.lcm(space, 32), math.lcm(space, 32)


def statistics(vae: Any) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Of the VAE's buffers: they are learned, and come with its weights."""
    return vae.latents_mean, vae.latents_std / vae.config.scaling_factor


def decode(vae: Any, z: Float[Tensor, "1 C T h w"]) -> Float[Tensor, "1 3 F H W"]:
    """From 0.9.1 on the decoder can remove noise too; timestep 0: there is none."""
    timestep = torch.zeros(1, device=z.device, dtype=z.dtype) if vae.config.timestep_conditioning else None
    return vae.decode(z, timestep).sample


def encode_text(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> Float[Tensor, "S E"]:
    """T5 sees the padding, as it did in training: the embedding depends on max_tokens."""
    tokens = tokenizer(
        caption, padding="max_length", max_length=max_tokens, truncation=True, return_tensors="pt"
    )
    embedded = encoder(tokens.input_ids.to(encoder.device)).last_hidden_state[0]
    return embedded[: int(tokens.attention_mask.sum())]


def velocity(
    transformer: nn.Module,
    noised: Float[Tensor, "B C T h w"],
    sigma: Float[Tensor, "B"],
    text: Float[Tensor, "B S E"],
    fps: float,
    first_frame: FirstFrame | None = None,
) -> Float[Tensor, "B C T h w"]:
    """A token is a latent position, placed in seconds and pixels; a text's padding (zeros) is not seen."""
    dtype = next(p.dtype for name, p in transformer.named_parameters() if name.endswith("proj_in.weight"))
    tokens = transformer(
        packed(noised).to(dtype),
        text.to(dtype),
        timestep=sigma * NUM_TRAIN_TIMESTEPS,
        encoder_attention_mask=text.ne(0).any(2),
        num_frames=noised.shape[2],
        height=noised.shape[3],
        width=noised.shape[4],
        rope_interpolation_scale=(TIME / fps, SPACE, SPACE),
        return_dict=False,
    )[0]
    return tokens.transpose(1, 2).unflatten(2, noised.shape[2:])


def packed(latent: Float[Tensor, "B C T h w"]) -> Float[Tensor, "B T*h*w C"]:
    """Latents as tokens."""
    return latent.flatten(2).transpose(1, 2)


def first_frame_kind(index: dict[str, Any], vae: dict[str, Any], transformer: dict[str, Any]) -> Kind | None:
    """Not here yet: of LTX text alone."""
    return None


def sampling(
    noise: Float[Tensor, "1 C T h w"], fps: float, num_frames: int, image: Any = None
) -> dict[str, Any]:
    """LTXPipeline starts from tokens."""
    return {"latents": packed(noise), "frame_rate": fps}
