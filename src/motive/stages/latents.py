"""clips -> latents and text embeddings, made once and never inside the gradient pass."""

import logging
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from motive import per_clip
from motive.clips.table import STANDARD, clip_path, clip_span, read_clips
from motive.models import backbones
from motive.models import folder as model_folder
from motive.params import Params
from motive.store.shards import Recipe, pending, publish, summarise, write_part
from motive.video.reading import BadClip, read_frames
from motive.workers.deal import deal

log = logging.getLogger("motive")
VERSION = 1  # raise it when the meaning of `latent` or `text` changes
Chunk = list[tuple[str, str, dict[str, Any], str]]  # (clip_id, file, which part of it, caption)


@dataclass(frozen=True)
class Work:
    """What a worker needs to know."""

    recipe: Recipe
    model: tuple[str, str, str]  # path, dtype, device
    frames: dict[str, Any]  # what read_frames makes of a clip
    max_tokens: int


def run(part: str, params: Params) -> None:
    """Encode all clips of one part with the frozen VAE and text encoder: data/PART/latents."""
    clips, out = read_clips(part), Path("data") / part / "latents"
    work = make_work(params)
    recipe, c = work.recipe, params.clips
    shape = model_folder.latent_shape(params.model.path, c.num_frames, c.height, c.width)
    log.info("latents %s: each clip becomes %s with the VAE of %s", part, list(shape), params.model.path)

    records: list[Any] = list(clips.itertuples())
    rows = {row.clip_id: (row.clip_id, str(clip_path(row)), clip_span(row), row.caption) for row in records}
    chunks = [[rows[i] for i in ids] for ids in pending(recipe, list(rows), params.shards.size)]
    todo = sum(map(len, chunks))
    log.info("latents %s: %d clips to encode, %d known", part, todo, len(rows) - todo)
    do, label = partial(encode_chunk, work), f"latents {part}"
    deal(do, chunks, params.workers, todo, label, params.model.device, params.ray)

    failures = publish(recipe, list(rows), params.shards.size, out)
    from motive.checks import check  # loads for seconds

    check("latents", summarise(out, "latent"), clips=clips, failures=failures, file=out)
    log.info("latents %s: %d clips, %d failed; see %s", part, len(rows) - len(failures), len(failures), out)


def make_work(params: Params) -> Work:
    """A clip id stands for the video and its caption; of the model only the encoders matter."""
    model, frames = params.model, params.clips.model_dump(include=STANDARD)
    encoders = model_folder.fingerprint(model.path, "vae", "text_encoder", "tokenizer")
    settings = {"clips": frames, "max_tokens": params.latents.max_tokens, "dtype": model.dtype}
    recipe = Recipe("latents", VERSION, settings, {"model": encoders})
    return Work(recipe, (model.path, model.dtype, model.device), frames, params.latents.max_tokens)


@lru_cache(maxsize=1)
def load(path: str, dtype: str, device: str) -> dict[str, Any]:
    """The frozen models that `per_clip.encode_clip` is given."""
    vae = backbones.load_vae(path, device)
    tokenizer, text_encoder = backbones.load_text_encoder(path, dtype, device)
    return {"vae": vae, "tokenizer": tokenizer, "text_encoder": text_encoder}


def encode_chunk(work: Work, chunk: Chunk) -> int:
    """Encode one chunk and keep it; returns its number of clips."""
    done, failures = {}, {}
    for clip_id, file, span, caption in chunk:
        if not Path(file).is_file():  # gone, not bad: remembered as a failure it would never be tried again
            raise ValueError(
                f"clip {clip_id}: {file} is missing; bring it back, or run the clips stage again"
            )
        try:
            done[clip_id] = per_clip.encode_clip(
                read_frames(Path(file), **work.frames, **span),
                caption,
                **load(*work.model),
                max_tokens=work.max_tokens,
            )
        except (BadClip, FloatingPointError) as error:
            failures[clip_id] = str(error)
    write_part(work.recipe, done, failures)
    return len(chunk)
