"""latents, text and masks -> one sketch a clip: its projected gradient of the motion-weighted loss."""

import logging
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from motive import per_clip
from motive.clips.table import read_clips
from motive.maths.packing import BYTES, unpack
from motive.maths.plan import Plan
from motive.maths.projection import KINDS, Projection
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.parameters import choose_parameters
from motive.params import Params
from motive.store.files import read_table
from motive.store.shards import (
    Recipe,
    Tensors,
    failed,
    locate,
    pending,
    publish,
    read_clip_tensors,
    read_manifest,
    summarise,
    write_part,
)
from motive.workers.deal import deal

log = logging.getLogger("motive")

VERSION = 2  # raise it when the meaning of a tensor changes


@dataclass(frozen=True)
class Work:
    """What a worker needs to know; all of it is in the recipe."""

    recipe: Recipe
    model: tuple[str, str, str]  # path, dtype, device
    max_tokens: int
    fps: float
    plan: Plan
    settings: dict[str, Any]  # the section `sketches` of params.yaml


@dataclass(frozen=True)
class Chunk:
    """Some clips and the shards that hold their latents and masks."""

    latents: dict[str, Path]
    masks: dict[str, Path]


def run(part: str, params: Params) -> None:
    """Sketch all clips of one part: data/PART/sketches.

    Raises:
        ValueError: latents or masks are not finished, or a check failed.
    """
    folder, s = Path("data") / part, params.sketches
    latents, masks = locate(folder / "latents"), locate(folder / "masks")
    work = make_work(params, folder)
    _pass_on(work.recipe, folder)

    clip_ids = read_clips(part)["clip_id"].tolist()
    ids = pending(work.recipe, clip_ids, params.shards.size)
    if lost := [i for chunk in ids for i in chunk if i not in latents or i not in masks]:
        raise ValueError(f"{folder}: clip {lost[0]} has no latent or no mask; run `dvc repro`")
    chunks = [Chunk({i: latents[i] for i in chunk}, {i: masks[i] for i in chunk}) for chunk in ids]
    todo = sum(map(len, ids))
    log.info("sketches %s: %d to make, %d known; sigmas %s", part, todo, len(clip_ids) - todo, list(s.sigmas))
    storage = work.settings["storage"]
    size = len(s.sigmas) * s.dim * BYTES[storage]
    log.info("sketches %s: %s, %d numbers as %s: %g bytes a clip", part, s.projection, s.dim, storage, size)
    do, label = partial(sketch_chunk, work), f"sketches {part}"
    deal(do, chunks, params.workers, todo, label, params.model.device, params.ray)

    failures = publish(work.recipe, clip_ids, params.shards.size, folder / "sketches")
    _check(part, folder / "sketches", failures)


def make_work(params: Params, folder: Path) -> Work:
    """Latents and masks stand for all they were made from; of the model only the transformer matters."""
    s, model, max_tokens = params.sketches, params.model, params.latents.max_tokens
    plan = Plan(s.sigmas, s.noise_seed)
    same = {"gradient_checkpointing"}  # it costs time and changes nothing
    stored = "float32" if folder.name == "queries" else s.storage  # queries are few
    settings = s.model_dump(mode="json", exclude=same) | {"storage": stored}
    settings |= {"dtype": model.dtype, "max_tokens": max_tokens}
    if s.segments > 1:
        settings["time_stride"] = model_folder.read_strides(model.path)[0]  # says when a segment begins
    inputs = {name: read_manifest(folder / name)["digest"] for name in ("latents", "masks")}
    inputs |= {"model": model_folder.fingerprint(model.path, "transformer"), "plan": plan.digest}
    where = (model.path, model.dtype, model.device)
    how = s.model_dump() | {"storage": stored}
    return Work(Recipe("sketches", VERSION, settings, inputs), where, max_tokens, params.clips.fps, plan, how)


def _pass_on(recipe: Recipe, folder: Path) -> None:
    """A clip without latent or mask has no sketch, for the same reason."""
    known, new = failed(recipe), {}
    for stage in ("latents", "masks"):
        table = read_table(folder / stage / "failures.parquet")
        reasons = zip(table["clip_id"], table["reason"], strict=True)
        new |= {clip_id: f"{stage}: {reason}" for clip_id, reason in reasons if clip_id not in known}
    if new:
        write_part(recipe, {}, new)


def _check(part: str, out: Path, failures: pd.DataFrame) -> None:
    from motive.checks import check

    table = summarise(out, "sketch", unpack)
    if table.empty:  # no shard, which would have the column
        table["ok"] = pd.Series(dtype=bool)
    check("sketches", table, clips=read_clips(part), failures=failures, file=out)
    num_ok = int(table["ok"].to_numpy(bool).sum())
    log.info("sketches %s: %d ok, %d still, %d failed", part, num_ok, len(table) - num_ok, len(failures))
    log.info("look at %s; when pool and queries are done: motive attribution", out / "manifest.json")


# ---- one clip


@lru_cache(maxsize=1)
def load(
    model: tuple[str, str, str], parameters: str, checkpointing: bool, projection: tuple[str, int, int]
) -> tuple[nn.Module, Projection]:
    """The transformer with the chosen parameters trainable, and the projection (kind, dim, seed)."""
    transformer: Any = backbones.load_transformer(*model)
    choose_parameters(transformer, parameters, seed=projection[2])
    if checkpointing:
        transformer.enable_gradient_checkpointing()
        transformer.train()  # no layer of it behaves otherwise in training, but only then it checkpoints
    kind, dim, seed = projection
    return transformer, KINDS[kind](dim, seed, model[2])


def sketch_chunk(work: Work, chunk: Chunk) -> int:
    """Sketch one chunk and keep it; returns its number of clips."""
    masks = dict(read_clip_tensors(chunk.masks, list(chunk.masks)))
    done, failures = {}, {}
    for clip_id, tensors in read_clip_tensors(chunk.latents, list(chunk.latents)):
        try:
            done[clip_id] = sketch_clip(work, tensors["latent"], tensors["text"], masks[clip_id]["mask"])
        except FloatingPointError as error:
            failures[clip_id] = str(error)
    write_part(work.recipe, done, failures)
    return len(chunk.latents)


def sketch_clip(work: Work, latent: Tensor, text: Tensor, mask: Tensor) -> Tensors:
    """One clip by `per_clip.sketch_clip`, with the model and the projection that `work` names.

    Raises:
        FloatingPointError: a loss or a gradient is not finite.
    """
    s = work.settings
    model, projection = load(
        work.model,
        s["parameters"],
        s["gradient_checkpointing"],
        (s["projection"], s["dim"], s["projection_seed"]),
    )
    return per_clip.sketch_clip(
        latent,
        backbones.padded([text.float()], work.max_tokens)[0],
        mask,
        model=model,
        velocity=partial(backbones.velocity, fps=work.fps),
        plan=work.plan,
        projection=projection,
        segments=s["segments"],
        storage=s["storage"],
    )
