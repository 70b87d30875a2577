"""Wan 2.1 and 2.2, text to video: a `Backbone` (families.py)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.models.experts import NUM_TRAIN_TIMESTEPS


def strides(vae: Any) -> tuple[int, int]:
    """As its config says; older ones leave it out."""
    return vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8)


def fitting(
    vae: dict[str, Any], transformer: dict[str, Any], strides: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left alone, diffusers drops frames and crops in silence."""
    time, space = strides
    _, patch_h, patch_w = transformer["patch_size"]
    # The VAE takes the first frame, then four at a time, whatever its stride; WanPipeline asks for 16 pixels.
    frames = math.lcm(time, 4)
    return vae["z_dim"], frames, math.lcm(space * patch_h, 16), math.lcm(space * patch_w, 16)


def statistics(vae: Any) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Of the config."""
    return torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)


def decode(vae: Any, z: Float[Tensor, "1 C T h w"]) -> Float[Tensor, "1 3 F H W"]:
    """Plainly."""
    return vae.decode(z).sample


def encode_text(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> Float[Tensor, "S E"]:
    """UMT5 does not see the padding."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    tokens = tokenizer(prompt_clean(caption), max_length=max_tokens, truncation=True, return_tensors="pt")
    attended = tokens.attention_mask.to(encoder.device)
    return encoder(tokens.input_ids.to(encoder.device), attended).last_hidden_state[0]


def velocity(
    transformer: nn.Module,
    noised: Float[Tensor, "B C T h w"],
    sigma: Float[Tensor, "B"],
    text: Float[Tensor, "B S E"],
    fps: float,
) -> Float[Tensor, "B C T h w"]:
    """Wan attends to the zeros behind a text too, and is not told the frame rate.

    With `expand_timesteps` (TI2V-5B) the pipeline gives each token a timestep, for the sake of a first frame
    without noise. From text alone all are equal, and one a clip is the same in far less memory.
    """
    # Its first parameters stay float32 in any model; the patch embedding says what the model computes in.
    dtype = next(
        p.dtype for name, p in transformer.named_parameters() if name.endswith("patch_embedding.weight")
    )
    return transformer(noised.to(dtype), sigma * NUM_TRAIN_TIMESTEPS, text.to(dtype), return_dict=False)[0]


def sampling(noise: Float[Tensor, "1 C T h w"], fps: float) -> dict[str, Any]:
    """WanPipeline starts from latents as they are."""
    return {"latents": noise}
