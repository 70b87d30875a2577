"""Does choosing by influence beat chance? The same fine-tuning on each choice, the same held-out clips.

    python benchmarks/selection.py --seeds 3 --json selection.json

Reads the results of a finished `dvc repro` in the working directory and changes none of them. Seed s trains
on Motive's choice and on s's random choice of as many clips, with everything else equal. What is done is kept
in the stages' work store: a second run goes on where the first stopped, and a sweep repeats nothing.
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from motive.clips.ranking import ranked, read_ranking, trainable
from motive.maths.statistics import crossed_bootstrap_interval
from motive.models.tuned import Model, base_model, tuned_model
from motive.params import Params, load_params
from motive.stages import evaluation, finetuning
from motive.stages.curation import STRATEGIES, num_wanted
from motive.workers.missing import make_missing

WORK = Path(".motive/benchmarks/selection")
MOTIVE, RANDOM = "motive", "random"
MOVING = "random_moving"  # is it influence, or only that clips without motion are left out?
OTHERS = ("motion_magnitude", MOVING)
DRAWS = 10_000  # of the bootstrap

log = logging.getLogger("motive")


class Measured(NamedTuple):
    """What the training runs came to: the base's losses [clips], and each strategy's [seeds, clips]."""

    base: np.ndarray
    tuned: dict[str, np.ndarray]
    num_selected: int


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each strategy.")] = 3,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of finetuning.learning_rate.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of finetuning.steps.")] = None,
    limit_heldout: Annotated[int | None, typer.Option(min=1, help="Measure on so many clips only.")] = None,
    also: Annotated[list[str] | None, typer.Option(help=f"{' or '.join(OTHERS)}; repeatable.")] = None,
) -> None:
    """Fine-tune on Motive's choice and on random ones, and compare them on held-out clips."""
    given = {"learning_rate": learning_rate, "steps": steps}
    given = {key: value for key, value in given.items() if value is not None}
    params = with_finetuning(load_params(), given)
    strategies = [MOTIVE, RANDOM, *sorted({*(also or [])})]
    if unknown := [name for name in strategies[2:] if name not in OTHERS]:
        raise ValueError(f"--also {unknown[0]}: it is one of {', '.join(OTHERS)}")
    measured = measure(params, strategies, range(seeds), limit_heldout)
    numbers = summarise(measured, params)
    print_tables(measured, numbers)
    if json_file:
        write_json(json_file, numbers)


def with_finetuning(params: Params, keys: dict[str, Any]) -> Params:
    """The parameters with other keys of `finetuning`, checked like params.yaml."""
    values = params.model_dump()
    values["finetuning"] |= keys
    return Params.model_validate(values)


# ---- train and measure


def measure(params: Params, strategies: list[str], seeds: range, limit: int | None) -> Measured:
    """Train each strategy with each seed, and measure each model on the held-out clips that move."""
    table = evaluation.read_heldout(params.evaluation.clips)
    # Ids are hashes, so the first of them are a random draw.
    clip_ids = table["clip_id"].to_numpy()[~table["still"].to_numpy(bool)].tolist()[:limit]
    where = (params.model.path, params.model.dtype, params.model.device)
    base = losses_of(base_model(*where), clip_ids, params)
    tuned: dict[str, list[np.ndarray]] = {strategy: [] for strategy in strategies}
    num_selected = 0
    for number, (seed, strategy) in enumerate((s, name) for s in seeds for name in strategies):
        subset = choose(params, strategy, seed)
        num_selected, out = len(subset), WORK / f"{strategy}-{seed}"
        log.info("selection: %d of %d: %s, seed %d", number + 1, len(seeds) * len(strategies), strategy, seed)
        finetuning.train(
            subset,
            out,
            finetuning=params.finetuning.model_copy(update={"seed": seed}),
            model=params.model,
            max_tokens=params.latents.max_tokens,
            fps=params.clips.fps,
        )
        model = replace(tuned_model(*where, str(out)), name=out.name)
        tuned[strategy].append(losses_of(model, clip_ids, params))
    return Measured(base, {name: np.stack(rows) for name, rows in tuned.items()}, num_selected)


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
    grid = evaluation.LossGrid(
        measured.clips, measured.sigmas, measured.noise_seeds, params.latents.max_tokens, params.clips.fps
    )
    job = evaluation.loss_job(model, clip_ids, grid, params.machine.shard_size)
    here = params.machine._replace(workers=1, ray="")  # sooner than workers start, for each model
    make_missing([job], here)
    return np.array([grid["motion"].double().mean() for grid in job.kept()])


def summarise(measured: Measured, params: Params) -> dict[str, float]:
    """Flat numbers; a difference below zero means that the first learned the motions better."""
    base, tuned, f = measured.base, measured.tuned, params.finetuning
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
        "learning_rate": f.learning_rate,
        "steps": f.steps,
        "batch_size": f.batch_size,
    }


def _difference(name: str, values: np.ndarray, params: Params) -> dict[str, float]:
    low, high = crossed_bootstrap_interval(values, params.evaluation.seed)
    return {f"{name}_mean": float(values.mean()), f"{name}_low": low, f"{name}_high": high}


# ---- what is shown


def print_tables(measured: Measured, numbers: dict[str, float]) -> None:
    """A table by strategy and one by seed."""
    from rich.console import Console
    from rich.table import Table

    about = (
        "{num_selected:.0f} clips, {steps:.0f} steps of {batch_size:.0f}, learning rate {learning_rate:g}; "
        "motion-weighted loss on {num_heldout:.0f} held-out clips, {num_seeds:.0f} seeds"
    )
    by_strategy = Table("trained on", "loss", "minus base (95 %)", "improved", "minus random (95 %)")
    by_strategy.add_row("nothing: the base", f"{numbers['base_loss']:.5f}")
    for name in measured.tuned:
        by_strategy.add_row(name, f"{numbers[f'{name}_loss_mean']:.5f}", *_cells(name, numbers))
    by_seed = Table("seed", *measured.tuned, "motive minus random")
    for seed in range(int(numbers["num_seeds"])):
        losses = [f"{rows[seed].mean():.5f}" for rows in measured.tuned.values()]
        by_seed.add_row(str(seed), *losses, f"{numbers[f'motive_minus_random_seed_{seed}']:+.5f}")
    console = Console(markup=False, width=120)
    for thing in (about.format(**numbers), by_strategy, by_seed, "below zero is better"):
        console.print(thing)


def _cells(name: str, numbers: dict[str, float]) -> Iterator[str]:
    yield _interval(f"{name}_minus_base", numbers)
    yield f"{numbers[f'{name}_improved_fraction']:.0%}"
    yield _interval(f"{name}_minus_random", numbers) if name != RANDOM else ""


def _interval(name: str, numbers: dict[str, float]) -> str:
    mean, low, high = (numbers[f"{name}_{which}"] for which in ("mean", "low", "high"))
    return f"{mean:+.5f} ({low:+.5f} to {high:+.5f})"


def write_json(path: Path, numbers: dict[str, float]) -> None:
    """Write the numbers, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, numbers)


if __name__ == "__main__":  # workers import this file again
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        typer.run(main)
    except ValueError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
