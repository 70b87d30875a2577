"""Video models through diffusers: strides, latents, text, velocity, samples.

`path` is a folder in diffusers layout or a hub id: models/tiny-wan, Wan-AI/Wan2.1-T2V-1.3B-Diffusers.
Loading is the same for all; what a family does in its own way is in its module: wan.py, ltx.py.
Heavy imports are inside functions: the command line must start fast.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motive.adapters.experts import NAMES, Experts, parts
from motive.adapters.families import FAMILIES, family_of

FPS = 25.0  # of a clip, where nobody says


# ---- the folder


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
        # Not what lies beside the folders: of LTX-Video that would be all its versions.
        return Path(snapshot_download(path, allow_patterns=["model_index.json", "*/*"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"model.path: {path} is no folder, and no model of that name was found: {error}"
        ) from error


def fingerprint(path: str, *names: str) -> str:
    """A hash of these parts of a model: names, sizes, and the first and last MiB of each file.

    A second expert belongs to the transformer, and so does where it begins.

    Raises:
        ValueError: a part is missing.
    """
    digest = hashlib.sha256()
    if NAMES[0] in names and (local_folder(path) / NAMES[1]).is_dir():
        names = (*names, NAMES[1])
        digest.update(f"boundary_ratio {_index(path)['boundary_ratio']}".encode())
    for part in names:
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


def _json(path: str, name: str) -> dict[str, Any]:
    file = local_folder(path) / name
    if not file.is_file():
        raise ValueError(f"model.path: {path} is not a diffusers folder: {file} is missing")
    return json.loads(file.read_text())


def _index(path: str) -> dict[str, Any]:
    index = _json(path, "model_index.json")
    if index["_class_name"] not in FAMILIES:
        known = ", ".join(name for name in FAMILIES if name.endswith("Pipeline"))
        raise ValueError(f"model.path: {path} is for {index['_class_name']}; supported: {known}")
    return index


def read_strides(path: str) -> tuple[int, int]:
    """How many frames and pixels one latent position spans: (time, space), read without loading weights."""
    return strides_of(_json(path, "vae/config.json"))


def strides_of(vae: Any) -> tuple[int, int]:
    """The same, of a VAE's config."""
    if "spatio_temporal_scaling" in vae:  # LTX: every such block halves both, if nothing else is said
        halved = 2 ** sum(vae["spatio_temporal_scaling"])
        time, space = (vae.get(f"{kind}_compression_ratio") for kind in ("temporal", "spatial"))
        return time or vae["patch_size_t"] * halved, space or vae["patch_size"] * halved
    return vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8)


def latent_shape(path: str, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """[C,T,h,w] of a clip's latent.

    Raises:
        ValueError: the model is of no known family, or frames or sizes don't fit it.
    """
    family, (time, space) = FAMILIES[_index(path)["_class_name"]], read_strides(path)
    configs = _json(path, "vae/config.json"), _json(path, "transformer/config.json")
    channels, frames, *multiples = family.fitting(*configs, (time, space))
    if (num_frames - 1) % frames:
        better = max(num_frames // frames, 1) * frames + 1
        raise ValueError(
            f"clips.num_frames: {num_frames} does not fit {path}; use {frames}n+1, e.g. {better}"
        )
    for name, size, multiple in zip(("height", "width"), (height, width), multiples, strict=True):
        if size % multiple:
            raise ValueError(f"clips.{name}: {size} does not fit {path}; use a multiple of {multiple}")
    return channels, 1 + (num_frames - 1) // time, height // space, width // space


def torch_dtype(name: str) -> torch.dtype:
    """float32, bfloat16 or float16 by name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


# ---- video <-> latent


def load_vae(path: str, device: str) -> Any:
    """The frozen VAE in float32: it is small, and its halves are visible."""
    from diffusers import AutoModel  # type: ignore[attr-defined]

    vae: Any = AutoModel.from_pretrained(str(local_folder(path)), subfolder="vae", dtype=torch.float32)
    return vae.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode_video(vae: Any, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Tensor, "C T h w"]:
    """The mode of the VAE's posterior, normalised with the model's mean and deviation; on the CPU."""
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(vae.device) / 127.5 - 1
    mode = vae.encode(video.to(vae.dtype)).latent_dist.mode()[0].float()
    mean, std = _statistics(vae)
    return ((mode - mean) / std).cpu()


@torch.no_grad()
def decode_video(vae: Any, latent: Float[Tensor, "C T h w"]) -> UInt8[np.ndarray, "F H W 3"]:
    """The inverse of `encode_video`, as pixels."""
    mean, std = _statistics(vae)
    z = (latent.float().to(vae.device) * std + mean).to(vae.dtype)
    video = family_of(vae).decode(vae, z[None])[0]
    return ((video.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    mean, std = (x.float().to(vae.device).view(-1, 1, 1, 1) for x in family_of(vae).statistics(vae))
    return mean, std


# ---- text


def load_text_encoder(path: str, dtype: str, device: str) -> tuple[Any, Any]:
    """The tokenizer and the frozen encoder."""
    from transformers import AutoModelForTextEncoding, AutoTokenizer

    encoder: Any = AutoModelForTextEncoding.from_pretrained(
        local_folder(path), subfolder="text_encoder", dtype=torch_dtype(dtype)
    )
    tokenizer = AutoTokenizer.from_pretrained(local_folder(path), subfolder="tokenizer")
    return tokenizer, encoder.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode_text(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> Float[Tensor, "S E"]:
    """The caption as the pipeline itself would embed it, cut to its true length; on the CPU."""
    return family_of(encoder).encode_text(tokenizer, encoder, caption, max_tokens).cpu()


def padded(text: list[Tensor], max_tokens: int) -> Float[Tensor, "B S E"]:
    """Embeddings padded with zeros to one length."""
    rows = [torch.cat([t[:max_tokens], t.new_zeros(max(0, max_tokens - len(t)), t.shape[1])]) for t in text]
    return torch.stack(rows)


# ---- velocity


def load_transformer(path: str, dtype: str, device: str, tuned: str = "") -> nn.Module:
    """The trainable transformer, or both `Experts`, with gradients on; `tuned`: a folder of their weights.

    Raises:
        ValueError: there are two, and no model_index.json says where the second begins.
    """
    from diffusers import AutoModel  # type: ignore[attr-defined]

    folder = local_folder(tuned or path)

    def load(name: str) -> Any:
        return AutoModel.from_pretrained(str(folder), subfolder=name, dtype=torch_dtype(dtype))

    model = load(NAMES[0])
    if (folder / NAMES[1]).is_dir():
        model = Experts(model, load(NAMES[1]), _index(path)["boundary_ratio"])
    return model.to(device).requires_grad_(True)


def save_transformer(transformer: nn.Module, dtype: str, folder: Path) -> None:
    """Write what `load_transformer` reads: what a transformer keeps in float32 stays so."""
    for name, model in parts(transformer).items():
        kept = set(model._keep_in_fp32_modules or ())
        for key, p in model.named_parameters():
            if not set(key.split(".")) & kept:
                p.data = p.data.to(torch_dtype(dtype))
        model.save_pretrained(folder / name)


def velocity(
    transformer: nn.Module,
    noised: Float[Tensor, "B C T h w"],
    sigma: Float[Tensor, "B"],
    text: Float[Tensor, "B S E"],
    fps: float = FPS,
) -> Float[Tensor, "B C T h w"]:
    """What the backbone predicts for these noised latents; the model sees 1000*sigma as a float.

    Text is as `padded` makes it. LTX places a clip's frames in time by its `fps`; Wan does not ask.
    """
    return family_of(transformer).velocity(transformer, noised, sigma, text, fps)


# ---- samples


Offload = Literal["none", "model", "group"]


def load_pipeline(
    path: str,
    dtype: str,
    device: str,
    transformer: nn.Module | None = None,
    offload: Offload = "none",
) -> Any:
    """The whole pipeline, its VAE in float32, with another transformer in place of its own if given.

    offload: what waits on the CPU: nothing; all models but the one in use; all layers but the one in use.
    """
    import diffusers
    from diffusers.utils.logging import set_verbosity_error

    set_verbosity_error()  # of a VAE that keeps every frame it says, wrongly, that frames don't fit
    own = {} if transformer is None else parts(transformer)
    # Its own class: `DiffusionPipeline` would load this one too, but drop the transformer that it is given.
    pipeline: Any = getattr(diffusers, _index(path)["_class_name"]).from_pretrained(
        local_folder(path), dtype=torch_dtype(dtype), vae=load_vae(path, "cpu"), **own
    )
    pipeline.set_progress_bar_config(disable=True)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipeline.enable_group_offload(torch.device(device), offload_type="leaf_level")
    else:
        pipeline.to(device)
    return pipeline


def generate(
    pipeline: Any,
    prompt: str,
    size: tuple[int, int, int],
    max_tokens: int,
    steps: int,
    guidance: float,
    seed: int,
    fps: float = FPS,
) -> UInt8[np.ndarray, "F H W 3"]:
    """One video of size (frames, height, width), the same for the same seed."""
    num_frames, height, width = size
    time, space = strides_of(pipeline.vae.config)
    # Drawn here: of a VAE with time stride 1 WanPipeline would make one frame too many.
    channels = pipeline.transformer.config.in_channels
    shape = (1, channels, (num_frames - 1) // time + 1, height // space, width // space)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    video = pipeline(
        prompt=prompt,
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=max_tokens,
        output_type="np",
        **family_of(pipeline).sampling(noise, fps),
    ).frames[0]
    if not np.isfinite(video).all():
        raise ValueError(
            f"the video of {prompt!r} is not finite: the model is broken; lower finetuning.learning_rate"
        )
    return (np.asarray(video) * 255).round().astype(np.uint8)
