"""Latents, text and masks -> one sketch a clip: its projected gradient of the motion-weighted loss."""

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor, nn

from motive import per_clip
from motive.clips.table import read_clips
from motive.maths.packing import BYTES, Storage, unpack
from motive.maths.plan import Plan
from motive.maths.projection import KINDS, Projection
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.first_frame import first_frame_of, is_clean
from motive.models.parameters import choose_parameters
from motive.params import Latents, Machine, Model, Sketches
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import Tensors, locate, read_clip_tensors, read_manifest, summarise
from motive.store.work import Failure, failed, pass_on_failures, publish, write_chunk
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

VERSION = 2  # raise it when the meaning of a tensor changes


class ClipInputs(NamedTuple):
    """A clip and the shards that hold its latent and its mask."""

    clip_id: str
    latent: Path
    mask: Path


def run(split: str, *, sketches: Sketches, model: Model, latents: Latents, machine: Machine) -> None:
    """Sketch all clips of a split: `data/SPLIT/sketches`.

    Raises:
        ValueError: latents or masks are not finished, or a check failed.
    """
    table = read_clips(split)
    out = stage_folder("sketches", split)
    latents_folder = stage_folder("latents", split)
    masks_folder = stage_folder("masks", split)
    storage = storage_of(split, sketches)
    recipe = make_recipe(split, sketches, model, latents)
    pass_on_failures(recipe, latents_folder, masks_folder)
    # Of the clips as they were encoded: `clips` is no section of this stage.
    fps = read_manifest(latents_folder)["params"]["clips"]["fps"]
    job = Job(
        label=f"sketches {split}",
        recipe=recipe,
        ids=table["clip_id"].tolist(),
        size=machine.shard_size,
        make=partial(make_chunk, recipe, sketches, model, storage, latents.max_tokens, fps),
        inputs=_inputs(table["clip_id"].tolist(), recipe, latents_folder, masks_folder),
    )
    size = len(sketches.sigmas) * sketches.dim * BYTES[storage]
    log.info(
        "sketches %s: sigmas %s; %s, %d numbers as %s: %g bytes a clip",
        split,
        list(sketches.sigmas),
        sketches.projection,
        sketches.dim,
        storage,
        size,
    )
    make_missing([job], machine, model.device)
    failures = publish(recipe, job.ids, job.size, out)
    _check(split, table, out, failures)


def _inputs(
    clip_ids: list[str], recipe: Recipe, latents_folder: Path, masks_folder: Path
) -> dict[str, ClipInputs]:
    latents = locate(latents_folder)
    masks = locate(masks_folder)
    failures = failed(recipe)
    inputs = {}
    for clip_id in clip_ids:
        if clip_id in latents and clip_id in masks:
            inputs[clip_id] = ClipInputs(clip_id, latents[clip_id], masks[clip_id])
        elif clip_id not in failures:
            raise ValueError(
                f"{latents_folder.parent}: clip {clip_id} has no latent or no mask; run `dvc repro`"
            )
    return inputs


def make_recipe(split: str, sketches: Sketches, model: Model, latents: Latents) -> Recipe:
    """Latents and masks stand for all they were made from; of the model only the transformer matters."""
    settings = {
        **sketches.model_dump(mode="json", exclude={"gradient_checkpointing"}),  # costs time, changes nothing
        "storage": storage_of(split, sketches),
        "dtype": model.dtype,
        "max_tokens": latents.max_tokens,
    }
    if model.condition == "first_frame":
        settings["condition"] = model.condition
    if sketches.segments > 1:
        settings["time_stride"] = model_folder.read_strides(model.path)[0]  # says when a segment begins
    inputs = {
        "latents": read_manifest(stage_folder("latents", split))["digest"],
        "masks": read_manifest(stage_folder("masks", split))["digest"],
        "model": model_folder.fingerprint(model.path, "transformer"),
        "plan": plan_of(sketches).digest,
    }
    return Recipe("sketches", VERSION, settings, inputs)


def storage_of(split: str, sketches: Sketches) -> Storage:
    """How the sketches of a split are kept; queries are few."""
    return "float32" if Path(split).name == "queries" else sketches.storage


def plan_of(sketches: Sketches) -> Plan:
    """The randomness that all clips share."""
    return Plan(sketches.sigmas, sketches.noise_seed)


def _check(split: str, clips: pd.DataFrame, out: Path, failures: pd.DataFrame) -> None:
    from motive.checks import check  # loads for seconds

    table = summarise(out, "sketch", unpack)
    if table.empty:  # no shard, which would have the column
        table["ok"] = pd.Series(dtype=bool)
    check("sketches", table, clips=clips, failures=failures, file=out)
    num_ok = int(table["ok"].to_numpy(bool).sum())
    log.info("sketches %s: %d ok, %d still, %d failed", split, num_ok, len(table) - num_ok, len(failures))
    log.info("look at %s; when pool and queries are done: motive attribution", out / "manifest.json")


# ---- in a worker


@lru_cache(maxsize=1)
def load(
    path: str,
    dtype: str,
    device: str,
    parameters: str,
    gradient_checkpointing: bool,
    projection: str,
    dim: int,
    projection_seed: int,
) -> tuple[nn.Module, Projection]:
    """The transformer with the chosen parameters trainable, and the projection."""
    transformer: Any = backbones.load_transformer(path, dtype, device)
    choose_parameters(transformer, parameters, seed=projection_seed)
    if gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
        transformer.train()  # no layer of it behaves otherwise in training, but only then it checkpoints
    return transformer, KINDS[projection](dim, projection_seed, device)


def sketcher(
    sketches: Sketches, model: Model, max_tokens: int, storage: Storage, fps: float
) -> Callable[[Tensors, Tensor], Tensors]:
    """`per_clip.sketch_clip` of what `encode_clip` keeps and a mask, with all that the sections say of it."""
    transformer, projection = load(
        model.path,
        model.dtype,
        model.device,
        sketches.parameters,
        sketches.gradient_checkpointing,
        sketches.projection,
        sketches.dim,
        sketches.projection_seed,
    )
    plan = plan_of(sketches)

    def sketch(clip: Tensors, mask: Tensor) -> Tensors:
        given = first_frame_of([clip], model.condition, model.device)
        return per_clip.sketch_clip(
            clip["latent"],
            backbones.padded([clip["text"].float()], max_tokens)[0],
            mask,
            model=transformer,
            velocity=partial(backbones.velocity, fps=fps, first_frame=given),
            plan=plan,
            projection=projection,
            segments=sketches.segments,
            storage=storage,
            clean_first_frame=is_clean(given),
        )

    return sketch


def make_chunk(
    recipe: Recipe,
    sketches: Sketches,
    model: Model,
    storage: Storage,
    max_tokens: int,
    fps: float,
    chunk: list[ClipInputs],
) -> int:
    """Sketch and keep some clips; one whose loss or gradient is no number becomes a failure."""
    sketch = sketcher(sketches, model, max_tokens, storage, fps)
    latents = {clip.clip_id: clip.latent for clip in chunk}
    masks = dict(read_clip_tensors({clip.clip_id: clip.mask for clip in chunk}, list(latents)))
    made: dict[str, Tensors] = {}
    failures: dict[str, Failure] = {}
    for clip_id, clip in read_clip_tensors(latents, list(latents)):
        try:
            made[clip_id] = sketch(clip, masks[clip_id]["mask"])
        except FloatingPointError as error:
            failures[clip_id] = Failure("not_finite", str(error))
    write_chunk(recipe, made, failures)
    return len(chunk)
