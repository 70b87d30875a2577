"""A real WanPipeline of a few thousand random weights, and a small project of clips around it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from motive.clips.table import COLUMNS, clip_id, write_clips
from motive.params import Params, load_params
from motive.store.files import write_table
from motive.store.recipes import Recipe
from motive.store.shards import Tensors
from motive.store.work import publish, write_chunk
from motive.video.writing import write_video
from toyworld.tiny_wan import build_text_encoder, save_pipeline

ROOT = Path(__file__).parents[1]
CHANNELS = 4
SHAPE = (CHANNELS, 2, 4, 4)  # the latent of 5 frames of 32x32
WORDS = ["a", "red", "blue", "ball", "box", "rolls", "spins", "falls", "rests"]


def build_transformer(seed: int = 0):
    """Another seed, another model."""
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=64,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def write_pipeline(path: Path) -> None:
    """A pipeline folder with the strides of models/tiny-wan."""
    from diffusers import AutoencoderKLWan  # type: ignore[attr-defined]

    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )
    tokenizer, text_encoder = build_text_encoder(WORDS)
    save_pipeline(path, vae, build_transformer(), text_encoder, tokenizer)


def small_params(**sections: dict) -> Params:
    """params.yaml made small, with keys of some sections changed."""
    values = load_params(ROOT / "params.yaml").model_dump()
    values["workers"] = 1
    values["shards"]["size"] = 2
    values["model"] |= {"path": "model", "condition": "text"}
    values["clips"] |= {"num_frames": 5, "fps": 10.0, "height": 32, "width": 32}
    values["latents"]["max_tokens"] = 8
    values["evaluation"] |= {
        "sigmas": (0.3, 0.7),
        "noise_seeds": (0,),
        "prompts": "prompts.txt",
        "measures": (),
        "num_inference_steps": 2,
        "guidance_scale": 1.5,
    }
    for name, section in sections.items():
        values[name] |= section
    return Params.model_validate(values)


def write_split(split: str, motions: list[str], videos: bool = True) -> list[str]:
    """Write a split's clip table and videos of a square that crosses the frame; returns the ids in order."""
    folder = Path("videos") / split
    rows = [clip_row(folder, n, motion) for n, motion in enumerate(motions)]
    if videos:
        for n in range(len(motions)):
            write_video(folder / f"{n}.mp4", crossing_square(n), 12.0)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("clip_id")
    write_clips(split, table)
    return table["clip_id"].tolist()


def clip_row(folder: Path, n: int, motion: str) -> dict[str, Any]:
    sha256 = f"{folder.name:x<8}"[:8].encode().hex() + f"{n:048x}"
    return {
        "clip_id": clip_id(sha256, motion),
        "video": f"{n}.mp4",
        "source": str(folder),
        "sha256": sha256,
        "caption": f"a red ball {motion}",
        "motion": motion,
        "num_frames": 5,
        "height": 32,
        "width": 32,
        "fps": 12.0,
        "duration": 5 / 12,
        "start": 0.0,
        "end": 5 / 12,
        "file_size": 2000 + n,
    }


def crossing_square(n: int) -> np.ndarray:
    """Frames uint8 [5,32,32,3]; another number, other colours."""
    frames = np.full((5, 32, 32, 3), 40 + 5 * n, np.uint8)
    for f, frame in enumerate(frames):
        frame[8:20, 2 + 3 * f : 14 + 3 * f] = (200, 10 * n, 90)
    return frames


def write_stage(split: str, recipe: Recipe, clips: dict[str, Tensors]) -> Path:
    """Publish tensors as a stage of a split would."""
    out = Path("data") / split / recipe.stage
    write_chunk(recipe, clips, {})
    publish(recipe, list(clips), 2, out)
    return out


def write_masks(split: str, masks: dict[str, torch.Tensor]) -> None:
    """Publish masks and their statistics; an empty mask is a still clip."""
    out = write_stage(split, Recipe("masks", 1), {one: {"mask": mask.half()} for one, mask in masks.items()})
    stats = {
        "clip_id": list(masks),
        "coverage": [float(mask.mean()) for mask in masks.values()],
        "motion": [100 * float(mask.mean()) for mask in masks.values()],
        "still": [not mask.any() for mask in masks.values()],
    }
    write_table(out / "mask_stats.parquet", pd.DataFrame(stats))
