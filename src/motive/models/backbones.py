"""Video models through diffusers: strides, latents, text, velocity, samples.

`path` is a folder in diffusers layout or a hub id: models/tiny-wan, Wan-AI/Wan2.1-T2V-1.3B-Diffusers.
Loading is the same for all; what a family does in its own way is in its module: wan.py, ltx.py.
Heavy imports are inside functions: the command line must start fast.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from motive.models.experts import NAMES, Experts, parts
from motive.models.families import MARK, family_named, family_of
from motive.models.first_frame import Condition, FirstFrame
from motive.models.folder import boundary_ratio, foreign_pipeline, local_folder, read_index

FPS = 25.0  # of a clip, where nobody says


def torch_dtype(name: str) -> torch.dtype:
    """float32, bfloat16 or float16 by name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


@contextmanager
def _loading(folder: Path, component: str) -> Iterator[None]:
    """What diffusers and transformers say of a component without weights, or with damaged ones, and where it
    is."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"model.path: {folder / component} can't be loaded: {error}") from error


def _marked(component: Any, path: str) -> Any:
    """The component, which knows from now on whose it is if its family is another package's."""
    pipeline = foreign_pipeline(path)
    if pipeline:
        setattr(component, MARK, pipeline)
    return component


# ---- video <-> latent


def load_vae(path: str, device: str) -> Any:
    """The frozen VAE in float32: it is small, and its halves are visible."""
    from diffusers import AutoModel  # type: ignore[attr-defined]

    folder = local_folder(path)
    with _loading(folder, "vae"):
        vae: Any = AutoModel.from_pretrained(str(folder), subfolder="vae", dtype=torch.float32)
    return _marked(vae.to(device).eval().requires_grad_(False), path)


@torch.no_grad()
def encode_video(vae: Any, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Tensor, "C T h w"]:
    """The mode of the VAE's posterior, normalised with the model's mean and std; on the CPU."""
    return _encode(vae, torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(vae.device) / 127.5 - 1)


@torch.no_grad()
def encode_first_frame(
    vae: Any, frame: UInt8[np.ndarray, "H W 3"], num_frames: int
) -> Float[Tensor, "X T h w"]:
    """What Wan I2V sees beside the noised latents: where frames are given, and the frame followed by grey."""
    video = torch.zeros(1, 3, num_frames, *frame.shape[:2], device=vae.device)
    video[0, :, 0] = torch.from_numpy(frame).permute(2, 0, 1).to(vae.device) / 127.5 - 1
    latent = _encode(vae, video)
    time_stride, _ = family_of(vae).strides(vae.config)
    given = torch.zeros(time_stride, *latent.shape[1:])
    given[:, 0] = 1
    return torch.cat([given, latent])


def _encode(vae: Any, video: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "C T h w"]:
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

    folder = local_folder(path)
    with _loading(folder, "text_encoder"):
        encoder: Any = AutoModelForTextEncoding.from_pretrained(
            folder, subfolder="text_encoder", dtype=torch_dtype(dtype)
        )
    with _loading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, subfolder="tokenizer")
    return tokenizer, _marked(encoder.to(device).eval().requires_grad_(False), path)


@torch.no_grad()
def encode_text(tokenizer: Any, encoder: Any, caption: str, max_tokens: int) -> Float[Tensor, "S E"]:
    """The caption as the pipeline itself would embed it, cut to its true length; on the CPU."""
    return family_of(encoder).encode_text(tokenizer, encoder, caption, max_tokens).cpu()


def load_image_encoder(path: str, dtype: str, device: str) -> tuple[Any, Any] | None:
    """The processor and the frozen encoder of first frames, of models that attend to one; else None."""
    from transformers import CLIPImageProcessor, CLIPVisionModel

    folder = local_folder(path)
    if not (folder / "image_encoder").is_dir():
        return None
    with _loading(folder, "image_encoder"):
        encoder: Any = CLIPVisionModel.from_pretrained(
            folder, subfolder="image_encoder", dtype=torch_dtype(dtype)
        )
    with _loading(folder, "image_processor"):
        processor = CLIPImageProcessor.from_pretrained(folder, subfolder="image_processor")
    return processor, encoder.to(device).eval().requires_grad_(False)


@torch.no_grad()
def encode_image(processor: Any, encoder: Any, frame: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "P E"]:
    """A first frame as Wan2.1 I2V attends to it: the last layer but one; on the CPU."""
    pixels = processor(images=Image.fromarray(frame), return_tensors="pt").pixel_values
    pixels = pixels.to(encoder.device, encoder.dtype)
    return encoder(pixels, output_hidden_states=True).hidden_states[-2][0].cpu()


def padded(text: list[Tensor], max_tokens: int) -> Float[Tensor, "B S E"]:
    """Embeddings padded with zeros to one length."""
    rows = [torch.cat([t[:max_tokens], t.new_zeros(max(0, max_tokens - len(t)), t.shape[1])]) for t in text]
    return torch.stack(rows)


# ---- velocity


def load_transformer(path: str, dtype: str, device: str, tuned: str = "") -> nn.Module:
    """The trainable transformer, or both `Experts`, with gradients on; `tuned`: a folder of their weights.

    Raises:
        ValueError: weights are missing or damaged, or model_index.json doesn't say where a second one begins.
    """
    from diffusers import AutoModel  # type: ignore[attr-defined]

    folder = local_folder(tuned or path)

    def load(name: str) -> Any:
        with _loading(folder, name):
            return AutoModel.from_pretrained(str(folder), subfolder=name, dtype=torch_dtype(dtype))

    model = load(NAMES[0])
    if (folder / NAMES[1]).is_dir():
        model = Experts(model, load(NAMES[1]), boundary_ratio(path))
    return _marked(model.to(device).requires_grad_(True), path)


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
    first_frame: FirstFrame | None = None,
) -> Float[Tensor, "B C T h w"]:
    """What the backbone predicts for these noised latents; the model sees 1000*sigma as a float.

    Text is as `padded` makes it. LTX places a clip's frames in time by its `fps`; Wan does not ask.
    With a clean `first_frame` that of the noised latents has no noise.
    """
    return family_of(transformer).velocity(transformer, noised, sigma, text, fps, first_frame)


# ---- samples


Offload = Literal["none", "model", "group"]


def load_pipeline(
    path: str,
    dtype: str,
    device: str,
    transformer: nn.Module | None = None,
    offload: Offload = "none",
    condition: Condition = "text",
) -> Any:
    """The whole pipeline, its VAE in float32, with another transformer in place of its own if given.

    condition: first_frame loads diffusers' pipeline for image to video.
    offload: what waits on the CPU: nothing; all models but the one in use; all layers but the one in use.
    """
    import diffusers
    from diffusers.utils.logging import set_verbosity_error

    set_verbosity_error()  # of a VAE that keeps every frame it says, wrongly, that frames don't fit
    own = {} if transformer is None else parts(transformer)
    # Its own class: `DiffusionPipeline` would load this one too, but drop the transformer that it is given.
    name = read_index(path)["_class_name"]
    if condition == "first_frame":
        name = family_named(name).IMAGE_PIPELINE  # pyright: ignore[reportOptionalMemberAccess]
    pipeline: Any = getattr(diffusers, name).from_pretrained(
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
    first_frame: UInt8[np.ndarray, "H W 3"] | None = None,
) -> UInt8[np.ndarray, "F H W 3"]:
    """One video of size (frames, height, width), the same for the same seed; it may go on from a frame."""
    num_frames, height, width = size
    noise = _starting_noise(pipeline, size, seed)
    image = None if first_frame is None else Image.fromarray(first_frame)
    call = {
        "prompt": prompt,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "max_sequence_length": max_tokens,
        "output_type": "np",
        **family_of(pipeline).sampling(noise, fps, num_frames, image),
    }
    video = pipeline(**call).frames[0]
    if not np.isfinite(video).all():
        raise ValueError(
            f"the video of {prompt!r} is not finite: the model is broken; lower finetuning.learning_rate"
        )
    return (np.asarray(video) * 255).round().astype(np.uint8)


def _starting_noise(pipeline: Any, size: tuple[int, int, int], seed: int) -> Float[Tensor, "1 C T h w"]:
    """Drawn here: of a VAE with time stride 1 WanPipeline would make one frame too many."""
    time, space = family_of(pipeline).strides(pipeline.vae.config)
    num_frames, height, width = size
    config = pipeline.transformer.config
    channels = config.out_channels or config.in_channels
    shape = (1, channels, (num_frames - 1) // time + 1, height // space, width // space)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
