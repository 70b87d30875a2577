"""Wan video models through diffusers: strides, latents, text, velocity, samples.

`path` is a folder in diffusers layout or a hub id: models/tiny-wan, Wan-AI/Wan2.1-T2V-1.3B-Diffusers.
Heavy imports are inside functions: the command line must start fast.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

NUM_TRAIN_TIMESTEPS = 1000


def local_folder(path: str) -> Path:
    """The folder of a model: itself, or the local copy of a hub id, fetched if it must be.

    Raises:
        ValueError: it is neither.
    """
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"model.path: {path} is no folder, and no model of that name was found: {error}"
        ) from error


def fingerprint(path: str, *parts: str) -> str:
    """A hash of these parts of a model: names, sizes, and the first and last MiB of each file.

    Raises:
        ValueError: a part is missing.
    """
    digest = hashlib.sha256()
    for part in parts:
        folder = local_folder(path) / part
        if not folder.is_dir():
            raise ValueError(f"model.path: {path} is not a diffusers folder: {folder} is missing")
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            digest.update(f"{part}/{file.name}/{file.stat().st_size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(1 << 20))
                stream.seek(max(0, file.stat().st_size - (1 << 20)))
                digest.update(stream.read())
    return digest.hexdigest()[:16]


def _config(path: str, part: str) -> dict:
    file = local_folder(path) / part / "config.json"
    if not file.is_file():
        raise ValueError(f"model.path: {path} is not a diffusers folder: {file} is missing")
    return json.loads(file.read_text())


def read_strides(path: str) -> tuple[int, int]:
    """How many frames and pixels one latent position spans: (time, space), read without loading weights."""
    config = _config(path, "vae")
    if "spatio_temporal_scaling" in config:  # LTX: every such block halves both
        halved = 2 ** sum(config["spatio_temporal_scaling"])
        return config["patch_size_t"] * halved, config["patch_size"] * halved
    return config.get("scale_factor_temporal", 4), config.get("scale_factor_spatial", 8)


def latent_shape(path: str, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """[C,T,h,w] of a clip's latent.

    Raises:
        ValueError: frames or sizes don't fit the model. Left alone, diffusers drops and crops in silence.
    """
    time, space = read_strides(path)
    _, patch_h, patch_w = _config(path, "transformer")["patch_size"]
    stride = math.lcm(time, 4)  # the VAE takes the first frame, then four at a time, whatever its stride
    if (num_frames - 1) % stride:
        better = max(num_frames // stride, 1) * stride + 1
        raise ValueError(
            f"clips.num_frames: {num_frames} does not fit {path}; use {stride}n+1, e.g. {better}"
        )
    for name, size, patch in (("height", height, patch_h), ("width", width, patch_w)):
        multiple = math.lcm(space * patch, 16)
        if size % multiple:
            raise ValueError(f"clips.{name}: {size} does not fit {path}; use a multiple of {multiple}")
    return _config(path, "vae")["z_dim"], 1 + (num_frames - 1) // time, height // space, width // space


def torch_dtype(name: str) -> torch.dtype:
    """float32, bfloat16 or float16 by name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


# ---- video <-> latent


def load_vae(path: str, device: str) -> Any:
    """The frozen VAE in float32: it is small, and its halves are visible."""
    from diffusers import AutoencoderKLWan  # type: ignore[attr-defined]

    vae: Any = AutoencoderKLWan.from_pretrained(local_folder(path), subfolder="vae", dtype=torch.float32)
    return vae.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode_video(vae: Any, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Tensor, "C T h w"]:
    """The mode of the VAE's posterior, normalised with the config's mean and deviation; on the CPU."""
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(vae.device) / 127.5 - 1
    mode = vae.encode(video.to(vae.dtype)).latent_dist.mode()[0].float()
    mean, std = (torch.tensor(x, device=mode.device).view(-1, 1, 1, 1) for x in _statistics(vae))
    return ((mode - mean) / std).cpu()


@torch.no_grad()
def decode_video(vae: Any, latent: Float[Tensor, "C T h w"]) -> UInt8[np.ndarray, "F H W 3"]:
    """The inverse of `encode_video`, as pixels."""
    mean, std = (torch.tensor(x).view(-1, 1, 1, 1) for x in _statistics(vae))
    video = vae.decode((latent.float() * std + mean)[None].to(vae.device, vae.dtype)).sample[0]
    return ((video.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def _statistics(vae: Any) -> tuple[list[float], list[float]]:
    return vae.config.latents_mean, vae.config.latents_std


# ---- text


def load_text_encoder(path: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The tokenizer and the frozen UMT5 encoder."""
    from transformers import AutoTokenizer, UMT5EncoderModel

    encoder: Any = UMT5EncoderModel.from_pretrained(
        local_folder(path), subfolder="text_encoder", dtype=torch_dtype(dtype)
    )
    tokenizer = AutoTokenizer.from_pretrained(local_folder(path), subfolder="tokenizer")
    return tokenizer, encoder.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode_text(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> Float[Tensor, "S E"]:
    """The caption as the pipeline itself would embed it, cut to its true length; on the CPU."""
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    tokens = tokenizer(prompt_clean(caption), max_length=max_tokens, truncation=True, return_tensors="pt")
    ids, mask = tokens.input_ids.to(encoder.device), tokens.attention_mask.to(encoder.device)
    return encoder(ids, mask).last_hidden_state[0].cpu()


def padded(text: list[Tensor], max_tokens: int) -> Float[Tensor, "B S E"]:
    """Embeddings padded with zeros to one length: Wan is trained on them so and attends to the zeros too."""
    rows = [torch.cat([t[:max_tokens], t.new_zeros(max(0, max_tokens - len(t)), t.shape[1])]) for t in text]
    return torch.stack(rows)


# ---- velocity


def load_transformer(path: str, dtype: str, device: str) -> nn.Module:
    """The trainable transformer (`WanTransformer3DModel`), with gradients on."""
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    model: Any = WanTransformer3DModel.from_pretrained(
        local_folder(path), subfolder="transformer", dtype=torch_dtype(dtype)
    )
    return model.to(device).requires_grad_(True)


def save_transformer(transformer: Any, dtype: str, folder: Path) -> None:
    """Write a transformer as `load_transformer` reads it: what it keeps in float32 stays so."""
    for name, p in transformer.named_parameters():
        if not set(name.split(".")) & set(transformer._keep_in_fp32_modules):
            p.data = p.data.to(torch_dtype(dtype))
    transformer.save_pretrained(folder)


def velocity(
    transformer: nn.Module,
    noised: Float[Tensor, "B C T h w"],
    sigma: Float[Tensor, "B"],
    text: Float[Tensor, "B S E"],
) -> Float[Tensor, "B C T h w"]:
    """What the backbone predicts for these noised latents; the model sees 1000*sigma as a float."""
    # Its first parameters stay float32 in any model; the patch embedding says what the model computes in.
    dtype = next(
        p.dtype for name, p in transformer.named_parameters() if name.endswith("patch_embedding.weight")
    )
    timestep = sigma * NUM_TRAIN_TIMESTEPS
    return transformer(noised.to(dtype), timestep, text.to(dtype), return_dict=False)[0]


# ---- samples


def load_pipeline(path: str, dtype: str, device: str, transformer: nn.Module | None = None) -> Any:
    """The whole `WanPipeline`, its VAE in float32, with another transformer in place of its own if given."""
    from diffusers import WanPipeline  # type: ignore[attr-defined]
    from diffusers.utils.logging import set_verbosity_error

    set_verbosity_error()  # of a VAE that keeps every frame it says, wrongly, that frames don't fit
    parts = {} if transformer is None else {"transformer": transformer}
    pipeline = WanPipeline.from_pretrained(
        local_folder(path), dtype=torch_dtype(dtype), vae=load_vae(path, device), **parts
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: Any,
    prompt: str,
    size: tuple[int, int, int],
    max_tokens: int,
    steps: int,
    guidance: float,
    seed: int,
) -> UInt8[np.ndarray, "F H W 3"]:
    """One video of size (frames, height, width), the same for the same seed."""
    num_frames, height, width = size
    stride, space = pipeline.vae_scale_factor_temporal, pipeline.vae_scale_factor_spatial
    # Drawn here: of a VAE with time stride 1 the pipeline would make one frame too many.
    channels = pipeline.transformer.config.in_channels
    shape = (1, channels, (num_frames - 1) // stride + 1, height // space, width // space)
    video = pipeline(
        prompt=prompt,
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=max_tokens,
        latents=torch.randn(shape, generator=torch.Generator().manual_seed(seed)),
        output_type="np",
    ).frames[0]
    if not np.isfinite(video).all():
        raise ValueError(
            f"the video of {prompt!r} is not finite: the model is broken; lower finetuning.learning_rate"
        )
    return (np.asarray(video) * 255).round().astype(np.uint8)
