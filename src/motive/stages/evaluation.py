"""Base and tuned model side by side: denoising losses on held-out clips, and the motion of generated videos.

What is measured is kept in the work store under the digest of the weights that made it: of the base model it
is made once, whatever is tuned later.
"""

import json
import logging
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from motive import generated
from motive.clips.prompts import read_prompts
from motive.clips.table import read_clips
from motive.images.png import write_if_drawn
from motive.maths.losses import loss_changes, loss_grid
from motive.maths.statistics import bootstrap_interval, nested_bootstrap_interval
from motive.models import backbones
from motive.models.first_frame import Condition, FirstFrame, first_frame_of, is_clean
from motive.models.tuned import Model, base_model, frozen_transformer, tuned_model
from motive.params import Clips, Evaluation, Latents, Machine
from motive.params import Model as ModelParams
from motive.store.files import read_table, write_json, write_table
from motive.store.hashes import text_digest
from motive.store.jobs import Job
from motive.store.layout import split_folder, stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest
from motive.store.work import write_chunk
from motive.video.frames import evenly_spaced
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

OUT = stage_folder("evaluation")
TUNED = stage_folder("finetuning")
VERSION = 1  # of the losses: raise it when the meaning of a number changes
REQUIRED = ["heldout_motion_loss_base", "heldout_motion_loss_tuned", "heldout_improved_fraction"]


def run(
    *, evaluation: Evaluation, model: ModelParams, latents: Latents, clips: Clips, machine: Machine
) -> None:
    """Write `data/evaluation`: metrics.json, per_clip.parquet, videos, videos.parquet and samples.png.

    Raises:
        ValueError: bad prompts, no held-out clip that moves, or a loss that is no number.
    """
    table = read_heldout(evaluation.clips)
    prompts = read_prompts_of(evaluation, model.condition, table)
    base = base_model(model.path, model.dtype, model.device)
    tuned = tuned_model(model.path, model.dtype, model.device, str(TUNED))

    # What is missing; in this order a worker loads each model once.
    grid = LossGrid(
        evaluation.clips,
        evaluation.sigmas,
        evaluation.noise_seeds,
        latents.max_tokens,
        clips.fps,
        model.condition,
    )
    clip_ids = table["clip_id"].tolist()
    losses = {one.name: loss_job(one, clip_ids, grid, machine.shard_size) for one in (base, tuned)}
    generations = [
        generated.make_generation(one, prompts, clips, evaluation, latents.max_tokens, model.condition)
        for one in (base, tuned)
    ]
    jobs = []
    for generation in generations:
        jobs += [losses[generation.model.name], generated.video_job(generation)]
    make_missing(jobs, machine, model.device, "evaluation")
    motion = [generated.motion_job(generation, machine.shard_size) for generation in generations]
    make_missing(motion, machine, label="evaluation")

    # What it says.
    per_clip = _with_losses(table, losses)
    motions = dict(zip(table["clip_id"], table["motion"], strict=True))
    videos = _write_videos(generations, motions)
    curation = json.loads((stage_folder("curation") / "curation.json").read_text())
    metrics = {
        "num_pool": curation["num_pool"],
        "num_selected": curation["num_selected"],
        **_loss_metrics(per_clip, evaluation.seed),
        **_video_metrics(videos, evaluation.seed),
    }
    _check(metrics)
    write_table(OUT / "per_clip.parquet", per_clip)
    write_table(OUT / "videos.parquet", pd.DataFrame(videos))
    write_if_drawn(OUT / "samples.png", lambda: generated.draw_samples(videos, clips))
    write_json(OUT / "metrics.json", metrics)
    _log(metrics)


# ---- denoising losses on held-out clips


def read_heldout(split: str) -> pd.DataFrame:
    """The clips to measure on: `clip_id`, `motion`, `caption`, `still`.

    Raises:
        ValueError: none of them moves.
    """
    masks = stage_folder("masks", split)
    usable = locate(stage_folder("latents", split)).keys() & locate(masks).keys()
    clips: Any = read_clips(split)[["clip_id", "motion", "caption"]]
    stats: Any = read_table(masks / "mask_stats.parquet")[["clip_id", "still"]]
    table = clips[clips["clip_id"].isin(usable)].merge(stats, on="clip_id", validate="one_to_one")
    if table["still"].all():
        raise ValueError(f"{split_folder(split)}: none of its {len(clips)} clips moves; look at masks.floor")
    log.info("evaluation: %d of %d clips of %s have a latent and a mask", len(table), len(clips), split)
    return table


def read_prompts_of(evaluation: Evaluation, condition: Condition, heldout: pd.DataFrame) -> dict[str, str]:
    """What videos are made of, by id: prompts of the file, or captions of clips whose first frames are given.

    Raises:
        ValueError: bad prompts.
    """
    if condition == "text":
        return {text_digest(prompt): prompt for prompt in read_prompts(Path(evaluation.prompts))}
    moving: Any = heldout[~heldout["still"]]
    moving = moving.sort_values(["motion", "clip_id"], kind="stable")
    rows = evenly_spaced(len(moving), evaluation.first_frames)
    chosen = moving.iloc[rows]
    log.info("evaluation: videos from the first frames of %d held-out clips", len(chosen))
    return dict(zip(chosen["clip_id"], chosen["caption"], strict=True))


@dataclass(frozen=True)
class LossGrid:
    """On which split losses are measured, at which noise levels and noises, and what a model is told."""

    split: str
    sigmas: tuple[float, ...]
    noise_seeds: tuple[int, ...]
    max_tokens: int
    fps: float
    condition: Condition


def loss_job(model: Model, clip_ids: list[str], grid: LossGrid, shard_size: int) -> Job:
    """For each clip `motion` and `plain` [sigmas, noise seeds]."""
    settings = {
        "sigmas": list(grid.sigmas),
        "noise_seeds": list(grid.noise_seeds),
        "max_tokens": grid.max_tokens,
        "dtype": model.dtype,
        "condition": grid.condition,
        "what": "losses",
    }
    inputs = {name: read_manifest(stage_folder(name, grid.split))["digest"] for name in ("latents", "masks")}
    recipe = Recipe("evaluation", VERSION, settings, inputs | {"model": model.digest})
    return Job(
        label=f"evaluation: losses of {model.name}",
        recipe=recipe,
        ids=clip_ids,
        size=shard_size,
        make=partial(measure_losses, recipe, model, grid),
    )


def measure_losses(recipe: Recipe, model: Model, grid: LossGrid, clip_ids: list[str]) -> int:
    """Measure and keep the losses of some clips; returns their number.

    Raises:
        ValueError: a loss is no number: the model has diverged.
    """
    transformer = frozen_transformer(model)
    masks = dict(read_clip_tensors(locate(stage_folder("masks", grid.split)), clip_ids))
    results = {}
    for clip_id, clip in read_clip_tensors(locate(stage_folder("latents", grid.split)), clip_ids):
        z = clip["latent"].float().to(model.device)
        W = masks[clip_id]["mask"].float().to(model.device)
        text = backbones.padded([clip["text"].float()], grid.max_tokens).to(model.device)

        first_frame = first_frame_of([clip], grid.condition, model.device)

        def predict(
            z: Tensor, sigma: Tensor, text: Tensor = text, first_frame: FirstFrame | None = first_frame
        ) -> Tensor:
            given = None if first_frame is None else first_frame.of([0] * len(z))
            return backbones.velocity(transformer, z, sigma, text.expand(len(z), -1, -1), grid.fps, given)

        losses = loss_grid(predict, z, W, grid.sigmas, grid.noise_seeds, is_clean(first_frame))
        if not all(values.isfinite().all() for values in losses.values()):
            advice = "lower finetuning.learning_rate" if model.tuned else "look at model.path and model.dtype"
            raise ValueError(f"the loss of the {model.name} model on clip {clip_id} is no number: {advice}")
        results[clip_id] = losses
    write_chunk(recipe, results, {})
    return len(clip_ids)


def _with_losses(clips: pd.DataFrame, jobs: dict[str, Job]) -> pd.DataFrame:
    """`clips` with the mean losses of both models; a still clip has no motion loss."""
    table = clips.copy()
    for kind in ("motion", "plain"):
        for name, job in jobs.items():
            values = np.array([losses[kind].double().mean() for losses in job.kept()])
            if kind == "motion":
                values[clips["still"].to_numpy(bool)] = np.nan
            table[f"{kind}_loss_{name}"] = values
    return table


def _loss_metrics(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """What became of the losses."""
    moving: Any = table[~table["still"]]
    changes = loss_changes(
        base=moving["motion_loss_base"].to_numpy(float),
        tuned=moving["motion_loss_tuned"].to_numpy(float),
        motions=[_slug(motion, "_") for motion in moving["motion"]],
        seed=seed,
    )
    return {
        **{f"heldout_{key}": value for key, value in changes.items()},
        "heldout_plain_loss_base": float(np.mean(table["plain_loss_base"])),
        "heldout_plain_loss_tuned": float(np.mean(table["plain_loss_tuned"])),
        "num_heldout": len(table),
        "num_heldout_still": len(table) - len(moving),
    }


# ---- generated videos


def _write_videos(generations: list[generated.Generation], motions: dict[str, str]) -> list[generated.Row]:
    """Write the files of both models; a row a video."""
    for old in OUT.glob("videos/*/*.mp4"):  # of an earlier run with other prompts
        old.unlink()
    rows = []
    for generation in generations:
        slugs = [_slug(prompt, "-") for prompt in generation.prompts.values()]
        rows += generated.write_videos(OUT / "videos" / generation.model.name, generation, slugs, motions)
    return rows


def _video_metrics(rows: list[generated.Row], seed: int) -> dict[str, float]:
    """Of each measure the mean of both models' videos, and the change: its 95 % interval over prompts.

    A prompt counts where both models' videos have an answer. Where each prompt has a motion, motions are
    drawn as well.
    """
    metrics: dict[str, float] = {"num_prompts": len(rows) // 2}
    motions = np.array([row["motion"] for row in rows if row["model"] == "base"], dtype=str)
    for name in [key for key in rows[0] if key not in ("model", "index", "prompt", "motion", "video")]:
        values = {model: [row[name] for row in rows if row["model"] == model] for model in ("base", "tuned")}
        pairs = np.array([values["base"], values["tuned"]], float)  # [2, prompts]
        answered = np.isfinite(pairs).all(0)
        pairs = pairs[:, answered]
        if not pairs.size:
            continue
        if (pairs == pairs[0, 0]).all():
            log.warning("evaluation: %s is %g for every video of both models", name, pairs[0, 0])
        base, tuned = pairs
        if motions.all():
            low, high = nested_bootstrap_interval(tuned - base, motions[answered].tolist(), seed)
        else:
            low, high = bootstrap_interval(tuned - base, seed)
        metrics |= {
            f"{name}_base": float(base.mean()),
            f"{name}_tuned": float(tuned.mean()),
            f"{name}_change": float((tuned - base).mean()),
            f"{name}_change_low": low,
            f"{name}_change_high": high,
        }
    return metrics


# ---- the end


def _check(metrics: dict[str, float]) -> None:
    from motive.checks import check  # loads for seconds

    rows = pd.DataFrame({"metric": list(metrics), "value": list(metrics.values())})
    check("evaluation", rows, file=OUT / "metrics.json", required=REQUIRED)


def _slug(words: str, joint: str) -> str:
    return re.sub(r"[^a-z0-9]+", joint, words.lower()).strip(joint)[:60].strip(joint)


def _log(metrics: dict[str, float]) -> None:
    for name in [key.removesuffix("_base") for key in metrics if key.endswith("_base")]:
        log.info(
            "evaluation: %-24s base %.5f  tuned %.5f",
            name,
            metrics[f"{name}_base"],
            metrics[f"{name}_tuned"],
        )
    change = [metrics[f"heldout_motion_loss_change{end}"] for end in ("", "_low", "_high")]
    log.info("evaluation: motion loss changed by %+.5f (95 %% interval %+.5f to %+.5f)", *change)
    moving = metrics["num_heldout"] - metrics["num_heldout_still"]
    fell = 100 * metrics["heldout_improved_fraction"]
    log.info("evaluation: it fell on %.0f %% of %d moving clips", fell, moving)
    log.info("evaluation: look at %s, %s and %s", OUT / "metrics.json", OUT / "samples.png", OUT / "videos")
