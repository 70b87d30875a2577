"""Does choosing by influence beat chance? The same fine-tuning on each choice, the same held-out clips.

    python benchmarks/selection.py --seeds 3 --json selection.json

Reads the results of a finished `dvc repro` in the working directory and changes none of them. Seed s trains
on Motive's choice and on s's random choice of as many clips, with everything else equal. What is done is kept
in the stages' work store: a second run goes on where the first stopped, and a sweep repeats nothing.
"""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.params import load_params
from motive.store.files import write_json
from testing.measuring import JsonFile
from testing.subset_comparison import (
    MATCHED,
    MOTIVE,
    MOVING,
    RANDOM,
    Measured,
    measure,
    summarise,
    with_finetuning,
)

OTHERS = ("motion_magnitude", MOVING, MATCHED)

log = logging.getLogger("motive")


def main(
    json_file: JsonFile = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each strategy.")] = 3,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of finetuning.learning_rate.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of finetuning.steps.")] = None,
    limit_heldout: Annotated[int | None, typer.Option(min=1, help="Measure on so many clips only.")] = None,
    physical: Annotated[bool, typer.Option(help="Make videos as well, and ask the world's judge.")] = False,
    also: Annotated[list[str] | None, typer.Option(help=f"{' or '.join(OTHERS)}; repeatable.")] = None,
) -> None:
    """Fine-tune on Motive's choice and on random ones, and compare them on held-out clips."""
    options = {"learning_rate": learning_rate, "steps": steps}
    given = {key: value for key, value in options.items() if value is not None}
    params = with_finetuning(load_params(), given)
    others: list[str] = sorted(set(also or ()))
    for name in others:
        if name not in OTHERS:
            raise ValueError(f"--also {name}: it is one of {', '.join(OTHERS)}")
    measured = measure(params, [MOTIVE, RANDOM, *others], range(seeds), limit_heldout, physical)
    numbers = summarise(measured, params)
    print_tables(measured, numbers)
    if json_file:
        write_json(json_file, numbers)


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
    tables = [by_strategy]
    if measured.tuned_physical is not None:
        judged = Table("videos after training on", "physical", "motive minus it (95 %)")
        judged.add_row(
            "nothing: the base",
            f"{numbers['physical_base']:.3f}",
            _interval("physical_motive_minus_base", numbers),
        )
        for name in measured.tuned_physical:
            gain = _interval(f"physical_motive_minus_{name}", numbers) if name != MOTIVE else ""
            judged.add_row(name, f"{numbers[f'physical_{name}']:.3f}", gain)
        tables.append(judged)
    by_seed = Table("seed", *measured.tuned, "motive minus random")
    for seed in range(int(numbers["num_seeds"])):
        losses = [f"{rows[seed].mean():.5f}" for rows in measured.tuned.values()]
        by_seed.add_row(str(seed), *losses, f"{numbers[f'motive_minus_random_seed_{seed}']:+.5f}")
    console = Console(markup=False, width=120)
    console.print(about.format(**numbers))
    for table in (*tables, by_seed):
        console.print(table)
    console.print("of losses below zero is better")


def _cells(name: str, numbers: dict[str, float]) -> Iterator[str]:
    yield _interval(f"{name}_minus_base", numbers)
    yield f"{numbers[f'{name}_improved_fraction']:.0%}"
    yield _interval(f"{name}_minus_random", numbers) if name != RANDOM else ""


def _interval(name: str, numbers: dict[str, float]) -> str:
    mean, low, high = (numbers[f"{name}_{which}"] for which in ("mean", "low", "high"))
    return f"{mean:+.5f} ({low:+.5f} to {high:+.5f})"


if __name__ == "__main__":  # workers import this file again
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        typer.run(main)
    except ValueError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
