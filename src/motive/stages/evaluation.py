"""Base and tuned model side by side: denoising losses on held-out clips, and the motion of generated videos.

What is measured is kept in the work store under the digest of the weights that made it: the base model's part
is made once, whatever is tuned later.
"""

import json
import logging
import re
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from motive.clips.prompts import read_prompts
from motive.clips.table import read_clips
from motive.images.png import write_png
from motive.images.sheets import Strip, spread, strip_sheet
from motive.maths.losses import loss_changes, loss_grid
from motive.maths.seeds import seed_of
from motive.maths.video_metrics import MOTION_METRICS, motion_metrics
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.tuned import Model, base_model, frozen_transformer, sampler, tuned_model
from motive.params import Params
from motive.store.files import read_table, write_json, write_table
from motive.store.hashes import text_digest
from motive.store.jobs import Job
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest
from motive.store.work import done, write_chunk
from motive.trackers.interface import dis
from motive.video.encoded import decoded, encoded
from motive.video.reading import read_frames
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

OUT = Path("data/evaluation")
TUNED = "data/finetuning"
LOSSES, VIDEOS, MOTION = 1, 1, 1  # versions: raise one when the meaning of its numbers changes
PRESET = "medium"  # of DIS: part of what the motion metrics mean
REQUIRED = ["heldout_motion_loss_base", "heldout_motion_loss_tuned", "heldout_improved_fraction"]
PICTURED, FRAMES = 10, 6  # prompts and frames on the contact sheet


def run(params: Params) -> None:
    """Write `data/evaluation`: metrics.json, per_clip.parquet, videos, videos.parquet and samples.png.

    Raises:
        ValueError: bad prompts, no held-out clip that moves, or a loss that is no number.
    """
    prompts = read_prompts(Path(params.evaluation.prompts))
    clips = held_out(params)
    where = (params.model.path, params.model.dtype, params.model.device)
    models = [base_model(*where), tuned_model(*where, TUNED)]
    losses = [loss_job(model, clips["clip_id"].tolist(), params) for model in models]
    work = [_video_work(model, prompts, params) for model in models]
    videos, motion = [_video_job(w) for w in work], [_motion_job(w) for w in work]
    # In this order a worker loads each model once.
    make_missing([losses[0], videos[0], losses[1], videos[1]], params.machine, where[-1], "evaluation")
    make_missing(motion, params.machine, label="evaluation")

    per_clip = _per_clip(clips, models, losses)
    table = _write_videos(prompts, models, videos, motion)
    curation = json.loads(Path("data/curation/curation.json").read_text())
    metrics = {key: curation[key] for key in ("num_pool", "num_selected")}
    metrics |= _loss_metrics(per_clip, params.evaluation.seed) | _video_metrics(table)
    from motive.checks import check  # loads for seconds

    rows = pd.DataFrame({"metric": list(metrics), "value": list(metrics.values())})
    check("evaluation", rows, file=OUT / "metrics.json", required=REQUIRED)
    write_table(OUT / "per_clip.parquet", per_clip)
    write_table(OUT / "videos.parquet", pd.DataFrame(table))
    write_png(OUT / "samples.png", _samples(table, params))
    write_json(OUT / "metrics.json", metrics)
    _tell(metrics)


# ---- denoising losses on held-out clips


def _folder(params: Params) -> Path:
    return Path("data") / params.evaluation.clips


def held_out(params: Params) -> pd.DataFrame:
    """The clips to measure on: `clip_id`, `motion`, `still`.

    Raises:
        ValueError: none of them moves.
    """
    folder = _folder(params)
    known = locate(folder / "latents").keys() & locate(folder / "masks").keys()
    clips: Any = read_clips(params.evaluation.clips)[["clip_id", "motion"]]
    stats: Any = read_table(folder / "masks/mask_stats.parquet")[["clip_id", "still"]]
    usable = clips[[clip_id in known for clip_id in clips["clip_id"]]]
    table = usable.merge(stats, on="clip_id", validate="one_to_one")
    if table["still"].all():
        raise ValueError(f"{folder}: none of its {len(clips)} clips moves; look at masks.floor")
    log.info("evaluation: %d of %d clips of %s have a latent and a mask", len(table), len(clips), folder)
    return table


def loss_job(model: Model, clip_ids: list[str], params: Params) -> Job:
    """For each clip `motion` and `plain` [sigmas, noise seeds]."""
    grid = params.evaluation.model_dump(mode="json", include={"sigmas", "noise_seeds"})
    settings = {**grid, "max_tokens": params.latents.max_tokens, "dtype": model.dtype, "what": "losses"}
    folder = _folder(params)
    inputs = {name: read_manifest(folder / name)["digest"] for name in ("latents", "masks")}
    recipe = Recipe("evaluation", LOSSES, settings, inputs | {"model": model.digest})
    make = partial(measure_losses, recipe, model, params)
    return Job(f"evaluation: losses of {model.name}", recipe, clip_ids, params.shards.size, make)


def measure_losses(recipe: Recipe, model: Model, params: Params, clip_ids: list[str]) -> int:
    """Measure and keep the losses of some clips; returns their number.

    Raises:
        ValueError: a loss is no number: the model has diverged.
    """
    transformer, e, fps, results = frozen_transformer(model), params.evaluation, params.clips.fps, {}
    masks = dict(read_clip_tensors(locate(_folder(params) / "masks"), clip_ids))
    for clip_id, clip in read_clip_tensors(locate(_folder(params) / "latents"), clip_ids):
        text = backbones.padded([clip["text"].float()], params.latents.max_tokens).to(model.device)

        def predict(z: Tensor, sigma: Tensor, text: Tensor = text) -> Tensor:
            return backbones.velocity(transformer, z, sigma, text.expand(len(z), -1, -1), fps)

        z, W = (tensor.float().to(model.device) for tensor in (clip["latent"], masks[clip_id]["mask"]))
        results[clip_id] = losses = loss_grid(predict, z, W, e.sigmas, e.noise_seeds)
        if not all(grid.isfinite().all() for grid in losses.values()):
            advice = "lower finetuning.learning_rate" if model.tuned else "look at model.path and model.dtype"
            raise ValueError(f"the loss of the {model.name} model on clip {clip_id} is no number: {advice}")
    write_chunk(recipe, results, {})
    return len(clip_ids)


def _per_clip(clips: pd.DataFrame, models: list[Model], losses: list[Job]) -> pd.DataFrame:
    """`clips` with the mean losses of both models; a still clip has no motion loss."""
    table, still = clips.copy(), clips["still"].to_numpy(bool)
    for kind, (model, job) in product(("motion", "plain"), zip(models, losses, strict=True)):
        values = np.array([grid[kind].double().mean() for grid in job.kept()])
        values[still & (kind == "motion")] = np.nan
        table[f"{kind}_loss_{model.name}"] = values
    return table


def _loss_metrics(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """What became of the losses."""
    moving: Any = table[~table["still"]]
    motions = [_slug(motion, "_") for motion in moving["motion"]]
    base, tuned = (moving[f"motion_loss_{name}"].to_numpy(float) for name in ("base", "tuned"))
    metrics = {f"heldout_{key}": value for key, value in loss_changes(base, tuned, motions, seed).items()}
    for name in ("base", "tuned"):
        metrics[f"heldout_plain_loss_{name}"] = float(np.mean(table[f"plain_loss_{name}"]))
    return metrics | {"num_heldout": len(table), "num_heldout_still": len(table) - len(moving)}


# ---- generated videos


@dataclass(frozen=True)
class VideoWork:
    """What a worker needs to generate videos and to measure their motion."""

    recipe: Recipe
    motion: Recipe
    model: Model
    prompts: dict[str, str]  # by id
    params: Params


def _video_work(model: Model, prompts: list[str], params: Params) -> VideoWork:
    e, c, path = params.evaluation, params.clips, params.model.path
    model_folder.latent_shape(path, c.num_frames, c.height, c.width)  # refuses what the model would change
    settings = c.model_dump(include={"num_frames", "height", "width", "fps"})
    settings |= e.model_dump(include={"num_inference_steps", "guidance_scale", "seed"})
    settings |= {"max_tokens": params.latents.max_tokens, "dtype": model.dtype, "what": "videos"}
    rest = model_folder.fingerprint(path, "vae", "text_encoder", "tokenizer", "scheduler")
    recipe = Recipe("evaluation", VIDEOS, settings, {"model": model.digest, "rest": rest})
    motion = Recipe("evaluation", MOTION, {"preset": PRESET, "what": "motion"}, {"videos": recipe.digest})
    ids = {text_digest(prompt): prompt for prompt in prompts}
    return VideoWork(recipe, motion, model, ids, params)


def _video_job(work: VideoWork) -> Job:
    """For each prompt `mp4`, the bytes of the file; each video its own chunk, for each costs much."""
    label, make = f"evaluation: videos of {work.model.name}", partial(make_videos, work)
    return Job(label, work.recipe, list(work.prompts), 1, make)


def _motion_job(work: VideoWork) -> Job:
    """For each video a number a metric; mostly known, since it is measured when the video is made."""
    make, size = partial(measure_motion, work), work.params.shards.size
    return Job(f"evaluation: motion of {work.model.name}", work.motion, list(work.prompts), size, make)


def make_videos(work: VideoWork, ids: list[str]) -> int:
    """Generate, measure and keep some videos, each from its own prompt's noise; returns their number."""
    e, max_tokens = work.params.evaluation, work.params.latents.max_tokens
    pipeline = sampler(work.model, e.offload)
    (size, fps), how = _shape(work.params), (e.num_inference_steps, e.guidance_scale)
    results = {}
    for one in ids:
        prompt, seed = work.prompts[one], seed_of("video", e.seed, work.prompts[one])
        frames = backbones.generate(pipeline, prompt, size, max_tokens, *how, seed, fps)
        results[one] = {"mp4": encoded(frames, fps)}
    write_chunk(work.recipe, results, {})
    return measure_motion(work, ids)


def measure_motion(work: VideoWork, ids: list[str]) -> int:
    """Measure and keep the motion of some videos, as a player shows them; returns their number."""
    size, fps = _shape(work.params)
    results = {}
    for one, tensors in read_clip_tensors(done(work.recipe), ids):
        metrics = motion_metrics(decoded(tensors["mp4"], size, fps), fps, partial(dis, preset=PRESET))
        results[one] = {name: torch.tensor(value) for name, value in metrics.items()}
    write_chunk(work.motion, results, {})
    return len(ids)


def _shape(params: Params) -> tuple[tuple[int, int, int], float]:
    """(frames, height, width) and frames a second of what is generated."""
    c = params.clips
    return (c.num_frames, c.height, c.width), c.fps


def _write_videos(
    prompts: list[str], models: list[Model], videos: list[Job], motion: list[Job]
) -> list[dict[str, Any]]:
    """Write the files; a row a video: `model`, `index`, `prompt`, `video` (path), motion metrics."""
    for old in OUT.glob("videos/*/*.mp4"):  # of an earlier run with other prompts
        old.unlink()
    rows = []
    for model, made, measured in zip(models, videos, motion, strict=True):
        (folder := OUT / "videos" / model.name).mkdir(parents=True, exist_ok=True)
        for index, (prompt, file, metrics) in enumerate(
            zip(prompts, made.kept(), measured.kept(), strict=True)
        ):
            path = folder / f"{index:02d}-{_slug(prompt, '-')}.mp4"
            path.write_bytes(file["mp4"].numpy().tobytes())
            row = {"model": model.name, "index": index, "prompt": prompt, "video": str(path)}
            rows.append(row | {name: float(metrics[name]) for name in MOTION_METRICS})
    return rows


def _video_metrics(rows: list[dict[str, Any]]) -> dict[str, float]:
    metrics: dict[str, float] = {"num_prompts": len(rows) // 2}
    for name, metric in product(("base", "tuned"), MOTION_METRICS):
        metrics[f"{metric}_{name}"] = float(np.mean([row[metric] for row in rows if row["model"] == name]))
    return metrics


def _samples(rows: list[dict[str, Any]], params: Params) -> np.ndarray:
    """Contact sheet: a few prompts, evenly from the list, with what each model made of them."""
    (num_frames, height, width), fps = _shape(params)
    indexes = np.linspace(0, rows[-1]["index"], PICTURED).round().astype(int).tolist()
    sheet: dict[str, list[Strip]] = {}
    for row in (row for row in rows if row["index"] in indexes):
        frames = read_frames(Path(row["video"]), num_frames, fps, height, width, "window")
        words = f"{row['prompt']}\nmoving {row['moving_fraction']:.0%}, mean {row['mean_motion']:.1f} px/s"
        sheet.setdefault(f"{row['index']:02d}", []).append(Strip(spread(frames, FRAMES), words))
    return strip_sheet(["base", "tuned"], list(sheet.items()))


# ---- the end


def _slug(words: str, joint: str) -> str:
    return re.sub(r"[^a-z0-9]+", joint, words.lower()).strip(joint)[:60].strip(joint)


def _tell(metrics: dict[str, float]) -> None:
    for name in ("heldout_motion_loss", "heldout_plain_loss", *MOTION_METRICS):
        base, tuned = metrics[f"{name}_base"], metrics[f"{name}_tuned"]
        log.info("evaluation: %-24s base %.5f  tuned %.5f", name, base, tuned)
    change = [metrics[f"heldout_motion_loss_change{end}"] for end in ("", "_low", "_high")]
    log.info("evaluation: motion loss changed by %+.5f (95 %% interval %+.5f to %+.5f)", *change)
    moving = metrics["num_heldout"] - metrics["num_heldout_still"]
    fell = 100 * metrics["heldout_improved_fraction"]
    log.info("evaluation: it fell on %.0f %% of %d moving clips", fell, moving)
    log.info("evaluation: look at %s, %s and %s", OUT / "metrics.json", OUT / "samples.png", OUT / "videos")
