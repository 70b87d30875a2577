"""Clips -> latents and text embeddings, made once and never inside the gradient pass."""

import logging
from functools import lru_cache, partial
from typing import Any

from motive import per_clip
from motive.clips.table import FRAME_KEYS, read_clips
from motive.clips.videos import ClipVideo, check_there, clip_videos
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.first_frame import Condition
from motive.params import Clips, Latents, Machine, Model
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import Tensors, summarise
from motive.store.work import Failure, publish, write_chunk
from motive.video.reading import BadClip, read_frames
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

VERSION = 1  # raise it when the meaning of a tensor changes
WORDS = {"clean": "as a latent frame without noise", "channels": "as channels beside the latents"}


def run(split: str, *, clips: Clips, latents: Latents, model: Model, machine: Machine) -> None:
    """Encode all clips of a split with the frozen VAE and text encoder: `data/SPLIT/latents`.

    Raises:
        ValueError: a video is gone since the clips stage, the clips don't fit the model, or a check failed.
    """
    table = read_clips(split)
    out = stage_folder("latents", split)
    shape = model_folder.latent_shape(model.path, clips.num_frames, clips.height, clips.width)
    log.info("latents %s: each clip becomes %s with the VAE of %s", split, list(shape), model.path)
    recipe = make_recipe(clips, latents, model)
    kind = model_folder.first_frame_kind(model.path, model.condition)
    model_folder.check_tokens(model.path, latents.max_tokens)
    if kind is not None:
        log.info("latents %s: the model is given the first frame, %s", split, WORDS[kind])
    job = Job(
        label=f"latents {split}",
        recipe=recipe,
        ids=table["clip_id"].tolist(),
        size=machine.shard_size,
        make=partial(make_chunk, recipe, clips, latents, model),
        inputs=clip_videos(table),
    )
    make_missing([job], machine, model.device)
    failures = publish(recipe, job.ids, job.size, out)

    from motive.checks import check  # loads for seconds

    check("latents", summarise(out, "latent"), clips=table, failures=failures, file=out)
    log.info("latents %s: %d done, %d failed", split, len(table) - len(failures), len(failures))
    log.info("look at %s", out / "failures.parquet" if len(failures) else out)


def make_recipe(clips: Clips, latents: Latents, model: Model) -> Recipe:
    """A clip id stands for the video and its caption; of the model only the encoders matter."""
    settings = {
        "clips": clips.model_dump(include=FRAME_KEYS),
        "max_tokens": latents.max_tokens,
        "dtype": model.dtype,
    }
    encoders = ["vae", "text_encoder", "tokenizer"]
    if model_folder.first_frame_kind(model.path, model.condition) == "channels":
        settings["first_frame"] = "channels"
        encoders += model_folder.image_encoder(model.path)
    return Recipe("latents", VERSION, settings, {"model": model_folder.fingerprint(model.path, *encoders)})


@lru_cache(maxsize=1)
def load(path: str, dtype: str, device: str, condition: Condition) -> dict[str, Any]:
    """The frozen models that `per_clip.encode_clip` is given, and how the backbone is given a first frame."""
    vae = backbones.load_vae(path, device)
    tokenizer, text_encoder = backbones.load_text_encoder(path, dtype, device)
    kind = model_folder.first_frame_kind(path, condition)
    return {
        "vae": vae,
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "first_frame": kind,
        "image_encoder": backbones.load_image_encoder(path, dtype, device) if kind == "channels" else None,
    }


def make_chunk(recipe: Recipe, clips: Clips, latents: Latents, model: Model, chunk: list[ClipVideo]) -> int:
    """Encode and keep some clips; one that can't be decoded or encoded becomes a failure."""
    standard = clips.model_dump(include=FRAME_KEYS)
    encoded: dict[str, Tensors] = {}
    failures: dict[str, Failure] = {}
    for clip in chunk:
        check_there(clip)
        try:
            frames = read_frames(clip.path, **standard, **clip.span)
            encoded[clip.clip_id] = per_clip.encode_clip(
                frames,
                clip.caption,
                **load(model.path, model.dtype, model.device, model.condition),
                max_tokens=latents.max_tokens,
            )
        except BadClip as error:
            failures[clip.clip_id] = Failure("unreadable", str(error))
        except FloatingPointError as error:
            failures[clip.clip_id] = Failure("not_finite", str(error))
    write_chunk(recipe, encoded, failures)
    return len(chunk)
