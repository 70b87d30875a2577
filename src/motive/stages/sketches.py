"""latents, text and masks -> one sketch a clip: its projected gradient of the motion-weighted loss."""

import logging
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from motive.adapters import backbones
from motive.formats.clips import read_clips
from motive.formats.shards import (
    Recipe,
    failed,
    locate,
    pending,
    publish,
    read_clip_tensors,
    read_manifest,
    summarise,
    write_part,
)
from motive.formats.tables import read_table
from motive.maths.denoising import common_noise, motion_weighted_loss, noised, target_velocity
from motive.maths.gradients import sketch_gradient
from motive.maths.projection import Fastfood
from motive.params import Params
from motive.workers import deal

log = logging.getLogger("motive")

VERSION = 1  # raise it when the meaning of `sketch` or `loss` changes


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
    do, label = partial(sketch_chunk, work), f"sketches {part}"
    deal(do, chunks, params.workers, todo, label, params.model.device, params.ray)

    failures = publish(work.recipe, clip_ids, params.shards.size, folder / "sketches")
    _check(part, folder / "sketches", failures)


def make_work(params: Params, folder: Path) -> Work:
    """Latents and masks stand for all they were made from; of the model only the transformer matters."""
    s, model, max_tokens = params.sketches, params.model, params.latents.max_tokens
    settings = {**s.model_dump(mode="json"), "dtype": model.dtype, "max_tokens": max_tokens}
    inputs = {name: read_manifest(folder / name)["digest"] for name in ("latents", "masks")}
    inputs |= {"model": backbones.fingerprint(model.path, "transformer")}
    where = (model.path, model.dtype, model.device)
    recipe = Recipe("sketches", VERSION, settings, inputs)
    return Work(recipe, where, max_tokens, s.sigmas, s.noise_seed, s.dim, s.projection_seed)


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

    table = summarise(out, "sketch")
    check("sketches", table, clips=read_clips(part), failures=failures, file=out)
    num_ok = int(table["ok"].to_numpy(bool).sum())
    log.info("sketches %s: %d ok, %d still, %d failed", part, num_ok, len(table) - num_ok, len(failures))
    log.info("look at %s; when pool and queries are done: motive attribution", out / "manifest.json")


@lru_cache(maxsize=1)
def _loaded(model: tuple[str, str, str], dim: int, seed: int) -> tuple[nn.Module, Fastfood]:
    transformer = backbones.load_transformer(*model)
    sizes = {name: p.numel() for name, p in transformer.named_parameters()}
    return transformer, Fastfood(sizes, dim, seed, model[2])


def sketch_chunk(work: Work, chunk: Chunk) -> int:
    """Sketch one chunk and keep it; returns its number of clips."""
    model, projection = _loaded(work.model, work.dim, work.projection_seed)
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
    C, T, h, w = z.shape
    eps = common_noise(work.noise_seed, (C, T, h, w)).to(device)
    sketches, losses = [], []
    for sigma in work.sigmas:
        v = backbones.velocity(model, noised(z, eps, sigma)[None], torch.tensor([sigma], device=device), e)[0]
        loss = motion_weighted_loss(v, target_velocity(z, eps), W)
        sketches.append(nn.functional.normalize(sketch_gradient(loss, model, projection), dim=0))
        losses.append(loss.detach())
    return nn.functional.normalize(torch.stack(sketches).mean(0), dim=0).cpu(), torch.stack(losses).cpu()
