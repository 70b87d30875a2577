"""The same fine-tuning on several choices of clips, measured on the same held-out clips."""

import logging
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from motive.clips.ranking import ranked, read_ranking, trainable
from motive.maths.statistics import crossed_bootstrap_interval
from motive.models.tuned import Model, base_model, tuned_model
from motive.params import Params
from motive.stages import evaluation, finetuning
from motive.stages.curation import STRATEGIES, num_wanted
from motive.workers.missing import make_missing

WORK = Path(".motive/benchmarks/selection")
MOTIVE = "motive"
RANDOM = "random"
MOVING = "random_moving"  # is it influence, or only that clips without motion are left out?

log = logging.getLogger("motive")


class Measured(NamedTuple):
    """What the training runs came to: the base's losses [clips], and each strategy's [seeds, clips]."""

    base: np.ndarray
    tuned: dict[str, np.ndarray]
    num_selected: int


def with_finetuning(params: Params, keys: dict[str, Any]) -> Params:
    """The parameters with other keys of `finetuning`, checked like params.yaml."""
    values = params.model_dump()
    values["finetuning"] |= keys
    return Params.model_validate(values)


# ---- train and measure


def measure(params: Params, strategies: list[str], seeds: range, limit: int | None) -> Measured:
    """Train each strategy with each seed, and measure each model on the held-out clips that move."""
    clip_ids = moving_heldout(params.evaluation.clips)[:limit]
    base = base_model(params.model.path, params.model.dtype, params.model.device)
    base_losses = losses_of(base, clip_ids, params)
    tuned: dict[str, list[np.ndarray]] = {strategy: [] for strategy in strategies}
    for number, (seed, strategy) in enumerate(product(seeds, strategies), 1):
        log.info("selection: %d of %d: %s, seed %d", number, len(seeds) * len(strategies), strategy, seed)
        tuned[strategy].append(losses_of(train(params, strategy, seed), clip_ids, params))
    num_selected = len(choose(params, strategies[-1], seeds[-1]))
    return Measured(base_losses, {name: np.stack(rows) for name, rows in tuned.items()}, num_selected)


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
    ranking = read_ranking()
    usable = trainable(ranked(ranking) if strategy == MOVING else ranking)
    strategy = RANDOM if strategy == MOVING else strategy
    curation = params.curation.model_copy(update={"strategy": strategy, "seed": seed})
    chosen = STRATEGIES[strategy](usable, curation).head(num_wanted(curation.fraction, len(ranking)))
    return chosen["clip_id"].tolist()


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
    numbers["motive_better_fraction"] = float((tuned[MOTIVE] < tuned[RANDOM]).mean())
    return numbers | {
        "num_seeds": len(tuned[MOTIVE]),
        "num_heldout": len(base),
        "num_selected": measured.num_selected,
        "learning_rate": params.finetuning.learning_rate,
        "steps": params.finetuning.steps,
        "batch_size": params.finetuning.batch_size,
    }


def _difference(name: str, values: np.ndarray, params: Params) -> dict[str, float]:
    low, high = crossed_bootstrap_interval(values, params.evaluation.seed)
    return {f"{name}_mean": float(values.mean()), f"{name}_low": low, f"{name}_high": high}
