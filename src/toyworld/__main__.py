"""`python -m toyworld`: render the toy world, and make the model that ships with the project."""

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from motive.terminal import log_to_terminal, run_app

log = logging.getLogger("motive")
app = typer.Typer(
    name="python -m toyworld",
    help="A rendered world of clips whose motion is known, and the tiny model that is trained on it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class PretrainStep(StrEnum):
    """What `pretrain` can make, in this order."""

    vae = "vae"
    latents = "latents"
    decoder = "decoder"
    transformer = "transformer"
    judge = "judge"
    package = "package"
    readme = "readme"


@app.callback()
def start() -> None:
    log_to_terminal()


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    num_pool: Annotated[int | None, typer.Option(min=1, help="Clips that might be trained on.")] = None,
    num_queries_per_motion: Annotated[int | None, typer.Option(min=1, help="Clips per motion.")] = None,
    num_heldout: Annotated[int | None, typer.Option(min=0, help="Clips to measure on.")] = None,
    size: Annotated[tuple[int, int] | None, typer.Option(help="Height and width in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes.")] = None,
    style: Annotated[str | None, typer.Option(help="simple looks, or rich ones.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.")] = None,
) -> None:
    """Draw a world of clips with known motion."""
    log.info("render: drawing the world into %s", out)
    from toyworld.render import write_world

    write_world(
        out,
        **_given(
            num_pool=num_pool,
            num_queries_per_motion=num_queries_per_motion,
            num_heldout=num_heldout,
            size=size,
            seed=seed,
            style=style,
            workers=workers,
        ),
    )


@app.command()
def pretrain(
    step: Annotated[PretrainStep, typer.Argument(help="What to make.")],
    out: Annotated[Path, typer.Option(help="The model's folder, for package and readme.")] = Path(
        "models/tiny-wan"
    ),
    threads: Annotated[int, typer.Option(min=1, help="For transformer.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps, for transformer.")] = None,
) -> None:
    """Make the model that ships with the project, step after step in the order of --help.

    A killed training goes on at its last checkpoint.
    """
    log.info("pretrain %s: starting", step.value)
    from toyworld.pretrain import decoder, latents, readme, transformer

    match step:
        case PretrainStep.vae:
            latents.fit_code()
        case PretrainStep.latents:
            latents.encode_latents()
        case PretrainStep.decoder:
            decoder.train_decoder()
        case PretrainStep.transformer:
            transformer.train_transformer(threads=threads, **_given(steps=steps))
        case PretrainStep.judge:
            from toyworld.measures.judge import train_judge

            train_judge()
        case PretrainStep.package:
            transformer.package(out)
        case PretrainStep.readme:
            readme.write_readme(out)


@app.command()
def falls(
    evaluation: Annotated[Path, typer.Option(help="What the stage has written.")] = Path("data/evaluation"),
    out: Annotated[Path, typer.Option(help="The image to write.")] = Path("falls.png"),
) -> None:
    """Draw how objects fall in the videos of the base and the tuned model, beside gravity's parabola."""
    from toyworld.falls import draw_generated_falls

    draw_generated_falls(evaluation, out)


def _given(**options: object) -> dict:
    return {name: value for name, value in options.items() if value is not None}


if __name__ == "__main__":
    run_app(app)
