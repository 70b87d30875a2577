"""latents, text and masks -> one sketch a clip: its projected gradient of the motion-weighted loss."""

import logging
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from motive.adapters import backbones
from motive.checks import check
from motive.formats.clips import read_clips
from motive.formats.shards import (
    Recipe,
    locate,
    pending,
    publish,
    read_clip_tensors,
    read_manifest,
    summarise,
    write_part,
)
from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.maths.gradients import sketch_gradient
from motive.maths.projection import Fastfood
from motive.params import Params
from motive.workers import deal

log = logging.getLogger("motive")


@dataclass(frozen=True)
class Work:
    """What a worker needs to know; all of it is in the recipe."""

    recipe: Recipe
    model: tuple[str, str, str]  # path, dtype, device
    max_tokens: int
    sigmas: tuple[float, ...]
    noise_seed: int
    dim: int
    projection_seed: int


@dataclass(frozen=True)
class Chunk:
    """Some clips and the shards that hold their latents and masks."""

    latents: dict[str, Path]
    masks: dict[str, Path]


def run(part: str, params: Params) -> None:
    """Sketch all clips of one part: data/PART/sketches."""
    folder, model, s = Path("data") / part, params.model, params.sketches
    latents, masks = locate(folder / "latents"), locate(folder / "masks")
    settings = {**s.model_dump(), "dtype": model.dtype, "max_tokens": params.latents.max_tokens}
    inputs = {name: read_manifest(folder / name)["digest"] for name in ("latents", "masks")}
    recipe = Recipe("sketches", 1, settings, inputs | {"model": backbones.fingerprint(model.path, "transformer")})

    clip_ids = [clip_id for clip_id in read_clips(part)["clip_id"] if clip_id in latents and clip_id in masks]
    ids = pending(recipe, clip_ids, params.shards.size)
    chunks = [Chunk({i: latents[i] for i in chunk}, {i: masks[i] for i in chunk}) for chunk in ids]
    todo = sum(map(len, ids))
    log.info("sketches %s: %d to make, %d known; sigmas %s, dim %d", part, todo, len(clip_ids) - todo, s.sigmas, s.dim)
    where = (model.path, model.dtype, model.device)
    work = Work(recipe, where, params.latents.max_tokens, tuple(s.sigmas), s.noise_seed, s.dim, s.projection_seed)
    deal(partial(sketch_chunk, work), chunks, params.workers, todo, f"sketches {part}")

    out = folder / "sketches"
    failures = publish(recipe, clip_ids, params.shards.size, out)
    table = summarise(out, "sketch")
    check("sketches", table, clips=pd.DataFrame({"clip_id": clip_ids}), failures=failures, file=out)
    counts = int(table["ok"].sum()), int((~table["ok"].astype(bool)).sum()), len(failures)
    log.info("sketches %s: %d ok, %d still, %d failed; next: motive attribution", part, *counts)


@cache
def _loaded(work: Work) -> tuple[nn.Module, Fastfood]:
    model = backbones.load_transformer(*work.model)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return model, Fastfood(sizes, work.dim, work.projection_seed, work.model[2])


def sketch_chunk(work: Work, chunk: Chunk) -> int:
    """Sketch one chunk and keep it; returns its number of clips."""
    model, projection = _loaded(work)
    masks = dict(read_clip_tensors(chunk.masks, list(chunk.masks)))
    done, failures = {}, {}
    for clip_id, tensors in read_clip_tensors(chunk.latents, list(chunk.latents)):
        mask = masks[clip_id]["mask"]
        if not mask.any():  # nothing moves: its motion-weighted loss is zero, and so is the gradient
            zero = torch.zeros(work.dim)
            done[clip_id] = {"sketch": zero, "loss": torch.zeros(len(work.sigmas)), "ok": torch.tensor(False)}
            continue
        sketch, loss = sketch_clip(work, model, projection, tensors["latent"], tensors["text"], mask)
        if sketch.isfinite().all():
            done[clip_id] = {"sketch": sketch, "loss": loss, "ok": torch.tensor(True)}
        else:
            failures[clip_id] = f"the gradient is not finite (loss {loss.tolist()})"
    write_part(work.recipe, done, failures)
    return len(chunk.latents)


def sketch_clip(
    work: Work, model: nn.Module, projection: Fastfood, latent: Tensor, text: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """latent [C,T,h,w], text [S,E], mask [T,h,w] -> unit sketch [D] and the loss at each sigma [K]."""
    device = work.model[2]
    z, W = latent.float().to(device), mask.float().to(device)
    e = backbones.padded([text.float()], work.max_tokens).to(device)
    eps = common_noise(work.noise_seed, z.shape).to(device)
    sketches, losses = [], []
    for sigma in work.sigmas:
        v = backbones.velocity(model, noised(z, eps, sigma)[None], torch.tensor([sigma], device=device), e)[0]
        loss = motion_weighted_loss(v, target_velocity(z, eps), W)
        sketches.append(nn.functional.normalize(sketch_gradient(loss, model, projection), dim=0))
        losses.append(loss.detach())
    return nn.functional.normalize(torch.stack(sketches).mean(0), dim=0).cpu(), torch.stack(losses).cpu()

