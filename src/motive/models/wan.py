"""Wan 2.1 and 2.2, from text and from a first frame: a `Backbone` (families.py)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.models.experts import NUM_TRAIN_TIMESTEPS
from motive.models.first_frame import FirstFrame, Kind

IMAGE_PIPELINE: str = "WanImageToVideoPipeline"
TOKENS_BESIDE_IMAGE = 512  # diffusers takes all tokens before the last 512 for the image's


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
    first_frame: FirstFrame | None = None,
) -> Float[Tensor, "B C T h w"]:
    """Wan attends to the zeros behind a text too, and is not told the frame rate.

    With `expand_timesteps` (TI2V-5B) the pipeline gives each token a timestep, for the sake of a first frame
    without noise. From text alone all are equal, and one a clip is the same in far less memory.
    """
    hidden = noised
    timestep = sigma * NUM_TRAIN_TIMESTEPS  # [B]
    more = {}
    channels, image = first_frame or FirstFrame()
    if channels is not None:
        hidden = torch.cat([noised, channels], dim=1)
    elif first_frame is not None:
        timestep = token_timesteps(timestep, noised.shape[-3:], patch_size(transformer))
    if image is not None:
        more["encoder_hidden_states_image"] = image
    # Its first parameters stay float32 in any model; the patch embedding says what the model computes in.
    dtype = next(
        p.dtype for name, p in transformer.named_parameters() if name.endswith("patch_embedding.weight")
    )
    more = {name: tensor.to(dtype) for name, tensor in more.items()}
    return transformer(hidden.to(dtype), timestep, text.to(dtype), return_dict=False, **more)[0]


def patch_size(transformer: nn.Module) -> tuple[int, int, int]:
    """Latent positions of a token: (frames, height, width), however the transformer is wrapped."""
    modules: Any = transformer.modules()
    frames, height, width = next(m.config.patch_size for m in modules if hasattr(m, "patch_embedding"))
    return frames, height, width


def token_timesteps(
    timestep: Float[Tensor, "B"], grid: tuple[int, ...], patch: tuple[int, int, int]
) -> Float[Tensor, "B N"]:
    """A timestep for each token of a latent grid (T, h, w): 0 for those of the first frame."""
    num_frames, height, width = (size // step for size, step in zip(grid, patch, strict=True))
    tokens = timestep[:, None].repeat(1, num_frames * height * width)
    tokens[:, : height * width] = 0
    return tokens


def first_frame_kind(index: dict[str, Any], vae: dict[str, Any], transformer: dict[str, Any]) -> Kind | None:
    """By model_index.json and the configs: None if it is made for text alone."""
    if index.get("expand_timesteps"):
        return "clean"
    return "channels" if transformer["in_channels"] > vae["z_dim"] else None


def sampling(
    noise: Float[Tensor, "1 C T h w"], fps: float, num_frames: int, image: Any = None
) -> dict[str, Any]:
    """WanPipeline starts from latents as they are."""
    call: dict[str, Any] = {"latents": noise}
    if noise.shape[2] == num_frames:  # of a VAE with time stride 1 it would make one frame too many
        call["num_frames"] = num_frames - 1
    return call if image is None else call | {"image": image}
