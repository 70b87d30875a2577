"""The same fine-tuning on several choices of clips, measured on the same held-out clips."""

import logging
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from motive import generated
from motive.clips.ranking import ranked, read_ranking, trainable
from motive.clips.table import read_clips
from motive.maths.statistics import crossed_bootstrap_interval
from motive.models.tuned import Model, base_model, tuned_model
from motive.params import Params
from motive.stages import evaluation, finetuning
from motive.stages.curation import STRATEGIES, num_wanted
from motive.workers.missing import make_missing
from toyworld.measures.objects import appearance

WORK = Path(".motive/benchmarks/selection")
MOTIVE = "motive"
RANDOM = "random"
MOVING = "random_moving"  # is it influence, or only that clips without motion are left out?
JUDGE = "toyworld.measures.videos:measure_video"  # says how physical a generated video is
MATCHED = "random_same_motions"  # ... or only which motions are chosen, and how often?

log = logging.getLogger("motive")


class Measured(NamedTuple):
    """What the training runs came to: the base's losses [clips], and each strategy's [seeds, clips].

    The same of videos, as probabilities that they are physical, if they were asked for.
    """

    base: np.ndarray
    tuned: dict[str, np.ndarray]
    num_selected: int
    base_physical: np.ndarray | None = None
    tuned_physical: dict[str, np.ndarray] | None = None


def with_finetuning(params: Params, keys: dict[str, Any]) -> Params:
    """The parameters with other keys of `finetuning`, checked like params.yaml."""
    values = params.model_dump()
    values["finetuning"] |= keys
    return Params.model_validate(values)


# ---- train and measure


def measure(
    params: Params, strategies: list[str], seeds: range, limit: int | None, physical: bool = False
) -> Measured:
    """Train each strategy with each seed, and measure each model on the held-out clips that move.

    Raises:
        ValueError: what the judge says is wanted, and `evaluation.measures` does not ask it.
    """
    if physical and JUDGE not in params.evaluation.measures:
        raise ValueError(f"--physical needs {JUDGE} among evaluation.measures")
    clip_ids = moving_heldout(params.evaluation.clips)[:limit]
    base = base_model(params.model.path, params.model.dtype, params.model.device)
    base_losses = losses_of(base, clip_ids, params)
    base_physical = physical_of(base, params) if physical else None
    losses: dict[str, list[np.ndarray]] = {strategy: [] for strategy in strategies}
    videos: dict[str, list[np.ndarray]] = {strategy: [] for strategy in strategies}
    for number, (seed, strategy) in enumerate(product(seeds, strategies), 1):
        log.info("selection: %d of %d: %s, seed %d", number, len(seeds) * len(strategies), strategy, seed)
        model = train(params, strategy, seed)
        losses[strategy].append(losses_of(model, clip_ids, params))
        if physical:
            videos[strategy].append(physical_of(model, params))
    return Measured(
        base_losses,
        {name: np.stack(rows) for name, rows in losses.items()},
        len(choose(params, strategies[-1], seeds[-1])),
        base_physical,
        {name: np.stack(rows) for name, rows in videos.items()} if physical else None,
    )


def moving_heldout(split: str) -> list[str]:
    """Ids are hashes, so the first of them are a random draw."""
    table = evaluation.read_heldout(split)
    return table["clip_id"].to_numpy()[~table["still"].to_numpy(bool)].tolist()


def train(params: Params, strategy: str, seed: int) -> Model:
    """The model fine-tuned on the strategy's choice."""
    out = WORK / f"{strategy}-{seed}"
    finetuning.train(
        choose(params, strategy, seed),
        out,
        finetuning=params.finetuning.model_copy(update={"seed": seed}),
        model=params.model,
        max_tokens=params.latents.max_tokens,
        fps=params.clips.fps,
    )
    model = tuned_model(params.model.path, params.model.dtype, params.model.device, str(out))
    return replace(model, name=out.name)


def choose(params: Params, strategy: str, seed: int) -> list[str]:
    """The pool clips that the curation stage would choose; `MOVING` draws from those with influence."""
    if strategy == MATCHED:
        return of_same_motions(choose(params, MOTIVE, seed), seed)
    ranking = read_ranking()
    usable = trainable(ranked(ranking) if strategy == MOVING else ranking)
    strategy = RANDOM if strategy == MOVING else strategy
    curation = params.curation.model_copy(update={"strategy": strategy, "seed": seed})
    chosen = STRATEGIES[strategy](usable, curation).head(num_wanted(curation.fraction, len(ranking)))
    return chosen["clip_id"].tolist()


def of_same_motions(chosen: list[str], seed: int) -> list[str]:
    """As many clips of the pool, drawn by chance, whose captions name each motion as often."""
    usable = trainable(read_ranking())["clip_id"].tolist()
    clips = read_clips("pool")
    named = dict(zip(clips["clip_id"], clips["caption"].map(_motion_of), strict=True))
    rng = np.random.default_rng(seed)
    drawn: list[str] = []
    for motion, count in sorted(Counter(named[clip_id] for clip_id in chosen).items()):
        candidates = [clip_id for clip_id in usable if named[clip_id] == motion]
        drawn += rng.choice(candidates, count, replace=False).tolist()
    return drawn


def _motion_of(caption: str) -> str:
    looks = appearance(caption)
    return (looks.motion if looks else None) or ""


def losses_of(model: Model, clip_ids: list[str], params: Params) -> np.ndarray:
    """The motion-weighted loss of each clip [clips], as evaluation measures it."""
    measured = params.evaluation
    losses = evaluation.LossGrid(
        measured.clips,
        measured.sigmas,
        measured.noise_seeds,
        params.latents.max_tokens,
        params.clips.fps,
        params.model.condition,
    )
    job = evaluation.loss_job(model, clip_ids, losses, params.machine.shard_size)
    here = params.machine._replace(workers=1, ray="")  # sooner than workers start, for each model
    make_missing([job], here)
    return np.array([grid["motion"].double().mean() for grid in job.kept()])


def videos_of(model: Model, params: Params) -> dict[str, np.ndarray]:
    """What is measured of the videos that a model makes of the evaluation's prompts: [prompts] each."""
    e = params.evaluation
    condition = params.model.condition
    max_tokens = params.latents.max_tokens
    prompts = evaluation.read_prompts_of(e, condition, evaluation.read_heldout(e.clips))
    generation = generated.make_generation(model, prompts, params.clips, e, max_tokens, condition)
    make_missing([generated.video_job(generation)], params.machine)
    motion = generated.motion_job(generation, params.machine.shard_size)
    make_missing([motion], params.machine)
    videos = list(motion.kept())
    return {name: np.array([float(video[name]) for video in videos]) for name in videos[0]}


def physical_of(model: Model, params: Params) -> np.ndarray:
    """How physical the world's judge finds each video; prompts without a motion are left out."""
    physical = videos_of(model, params)["physical"]
    return physical[np.isfinite(physical)]


def summarise(measured: Measured, params: Params) -> dict[str, float]:
    """Flat numbers; a difference below zero means that the first learned the motions better."""
    base = measured.base
    tuned = measured.tuned
    numbers: dict[str, float] = {"base_loss": float(base.mean())}
    for name, losses in tuned.items():
        numbers[f"{name}_loss_mean"] = float(losses.mean())
        numbers[f"{name}_improved_fraction"] = float((losses < base).mean())
        numbers |= _difference(f"{name}_minus_base", losses - base, params)
        if name != RANDOM:
            numbers |= _difference(f"{name}_minus_random", losses - tuned[RANDOM], params)
    for seed, difference in enumerate((tuned[MOTIVE] - tuned[RANDOM]).mean(axis=1)):
        numbers[f"motive_minus_random_seed_{seed}"] = float(difference)
    numbers |= _physical(measured, params)
    numbers["motive_better_fraction"] = float((tuned[MOTIVE] < tuned[RANDOM]).mean())
    return numbers | {
        "num_seeds": len(tuned[MOTIVE]),
        "num_heldout": len(base),
        "num_selected": measured.num_selected,
        "learning_rate": params.finetuning.learning_rate,
        "steps": params.finetuning.steps,
        "batch_size": params.finetuning.batch_size,
    }


def _physical(measured: Measured, params: Params) -> dict[str, float]:
    """Means of the judge's probability, and what Motive's choice gains over the base and the others."""
    if measured.base_physical is None or measured.tuned_physical is None:
        return {}
    numbers = {"physical_base": float(measured.base_physical.mean())}
    motive = measured.tuned_physical[MOTIVE]
    numbers |= _difference("physical_motive_minus_base", motive - measured.base_physical, params)
    for name, physical in measured.tuned_physical.items():
        numbers[f"physical_{name}"] = float(physical.mean())
        if name != MOTIVE:
            numbers |= _difference(f"physical_motive_minus_{name}", motive - physical, params)
    return numbers


def _difference(name: str, values: np.ndarray, params: Params) -> dict[str, float]:
    low, high = crossed_bootstrap_interval(values, params.evaluation.seed)
    return {f"{name}_mean": float(values.mean()), f"{name}_low": low, f"{name}_high": high}
