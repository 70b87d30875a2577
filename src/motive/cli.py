"""The `motive` command: arguments only, each command calls one function.

The pipeline's commands come first, in its order, then what people ask of a project.
"""

import logging
import os
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from motive.options import Device, Dtype, Settings, Split, load
from motive.terminal import log_to_terminal, print_table, run_app

SPLIT_STAGES = ("clips", "optical_flow", "masks", "latents", "sketches")
STAGES = ("attribution", "curation", "finetuning", "evaluation", "record")

log = logging.getLogger("motive")
app = typer.Typer(
    help="Which training clips taught a video model its motion?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """The `motive` command."""
    run_app(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"motive {version('motive')}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    params: Annotated[
        Path, typer.Option("--params", metavar="FILE", help="The parameters; a path in --root.")
    ] = Path("params.yaml"),
    root: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Run as if started in this project's folder, like `git -C`.",
        ),
    ] = Path(),
    device: Device = None,
    dtype: Dtype = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    os.chdir(root)
    context.obj = Settings(params, device, dtype)
    if debug:
        os.environ["MOTIVE_DEBUG"] = "1"
    log_to_terminal(debug)


# ---- the pipeline


def _stage(name: str, example: str):
    """A command called as its stage is in dvc.yaml."""
    return app.command(name, rich_help_panel="Pipeline, in this order", epilog=f"Example: motive {example}")


def _run(
    context: typer.Context,
    *split: str,
    stage: str = "",
    device: str | None = None,
    dtype: str | None = None,
) -> None:
    stage = stage or context.info_name or ""
    log.info("%s: starting with %s", " ".join((stage, *split)), context.obj.params)
    params = load(context, device, dtype)
    if split and split[0] not in params.clips.source:
        raise ValueError(f"split {split[0]!r}: allowed: {' | '.join(params.clips.source)} (clips.source)")
    from motive.recording.system import sampled
    from motive.stages import run_stage, share_work
    from motive.store.files import alone

    share_work()
    # A second run would pay for the same clips again. Fine-tuning is several processes by itself.
    lock = alone(f"{stage} {split[0]}") if split else nullcontext()
    with lock, sampled("@".join((stage, *split)), params):
        run_stage(import_module(f"motive.stages.{stage}"), params, *split)


@_stage("clips", "clips pool")
def clips(context: typer.Context, split: Split) -> None:
    """Read and standardise a folder of clips; broken files become rows with a reason."""
    _run(context, split)


@_stage("optical_flow", "optical_flow pool --device cuda")
def optical_flow(context: typer.Context, split: Split, device: Device = None) -> None:
    """Follow how every pixel moves from frame to frame."""
    _run(context, split, device=device)


@_stage("masks", "masks pool")
def masks(context: typer.Context, split: Split) -> None:
    """Weigh each place and moment by how much moves there."""
    _run(context, split)


@_stage("latents", "latents pool --device cuda")
def latents(context: typer.Context, split: Split, device: Device = None, dtype: Dtype = None) -> None:
    """Encode clips and captions as the backbone sees them."""
    _run(context, split, device=device, dtype=dtype)


@_stage("sketches", "sketches pool --device cuda:1 --dtype bfloat16")
def sketches(context: typer.Context, split: Split, device: Device = None, dtype: Dtype = None) -> None:
    """Project each clip's motion-weighted gradient to a short vector."""
    _run(context, split, device=device, dtype=dtype)


@_stage("attribution", "--root ../other_project attribution")
def attribution(context: typer.Context) -> None:
    """Compare pool with queries: the influence of each clip, and the votes."""
    _run(context)


@_stage("curation", "--params profiles/paper.yaml curation")
def curation(context: typer.Context) -> None:
    """Choose the subset to train on."""
    _run(context)


@_stage("finetuning", "finetuning --device cuda")
def finetuning(context: typer.Context, device: Device = None, dtype: Dtype = None) -> None:
    """Fine-tune the backbone on the subset."""
    _run(context, device=device, dtype=dtype)


@_stage("evaluation", "evaluation --device cuda")
def evaluation(context: typer.Context, device: Device = None, dtype: Dtype = None) -> None:
    """Measure base and tuned model side by side."""
    _run(context, device=device, dtype=dtype)


@_stage("record", "record")
def record(
    context: typer.Context,
    failed: Annotated[str, typer.Option(metavar="STAGE", help="Record instead that this stage failed.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="With --failed: what it said.")] = "",
) -> None:
    """Record everything in MLflow, once."""
    if not failed:
        _run(context)
        return
    log.info("record: %s failed", failed)
    params = load(context)
    from motive.stages.record import fail

    fail(params, failed, reason)


# ---- what people ask; an option that is not given has the called function's own default


def _ask(example: str):
    return app.command(rich_help_panel="Ask a project", epilog=f"Example: motive {example}")


@_ask("append")
def append(context: typer.Context, device: Device = None, dtype: Dtype = None) -> None:
    """Add the clips that came into the pool's folder to its sketches, at the cost of these alone."""
    for stage in SPLIT_STAGES:
        _run(context, "pool", stage=stage, device=device, dtype=dtype)


@_ask('query jump.mp4 --caption "a dog jumps over a fence"')
def query(
    context: typer.Context,
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video that shows the motion.")],
    caption: Annotated[
        str, typer.Option(metavar="TEXT", help="What it shows, in the words of the pool's captions.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Clips printed, from both ends.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON, with all columns.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="X.png",
            help="Where the image goes, and beside it X.parquet: the table of all clips.",
            show_default=".motive/query/VIDEO.png",
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Ask a sketched pool about a new video: which clips teach its motion, and which teach against it."""
    log.info("query: %s against the sketches of data/pool", video)
    params = load(context, device, dtype)
    import pandas as pd

    from motive.clips.ranking import segment_of
    from motive.query import draw, query_pool
    from motive.store.files import write_table
    from motive.store.layout import state_folder

    image = out or state_folder() / "query" / f"{video.stem}.png"
    if image.suffix.lower() != ".png":
        raise ValueError(f"--out {image}: it is an image, and the table stands beside it: name it X.png")

    ranking = query_pool(video, caption, params)
    ends = pd.concat([ranking.head(top), ranking.iloc[top:].tail(top)])
    if as_json:
        print(ends.to_json(orient="records", double_precision=15, force_ascii=False, indent=1))
    else:
        heads = ["rank", "influence", "clip", "video", "caption", "most at"]
        num_columns = len(heads) if "segment_start" in ranking else len(heads) - 1
        rows = (
            (row.rank, f"{row.influence:+.3f}", row.clip_id, row.video, row.caption, segment_of(row))
            for row in list[Any](ends.itertuples())
        )
        print_table(heads[:num_columns], (row[:num_columns] for row in rows))
    write_table(image.with_suffix(".parquet"), ranking)
    draw(ranking, video, caption, params, image)
    log.info("look at %s; all clips are in %s", image, image.with_suffix(".parquet"))


@_ask("show jump.mp4")
def show(
    context: typer.Context,
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="A clip_id, its beginning, or a file name.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="X.png", help="Where the image goes.", show_default=".motive/show/CLIP_ID.png"),
    ] = None,
) -> None:
    """Show one clip: frames, optical flow, the same without the camera, mask, and what they say."""
    params = load(context)
    from motive.show import show as draw

    facts, image = draw(clip, params, out)
    print_table([], ((name, _rounded(fact)) for name, fact in facts.items()))
    log.info("look at %s", image)


def _rounded(fact: object) -> object:
    return f"{fact:.3f}" if isinstance(fact, float) else fact


@_ask("validate --small")
def validate(
    context: typer.Context,
    small: Annotated[bool, typer.Option("--small", help="A quick look that proves nothing.")] = False,
    subsets: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Halves to train on, for the LDS (linear datamodelling score).",
            show_default="64; with --small 4",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.", show_default="workers of params.yaml")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Is the attribution right? Retrain, remove, corrupt, and hold it against the truth.

    Needs the masks and latents of pool, queries and held-out clips. A killed run goes on where it stopped.
    """
    log.info("validate: starting with %s", context.obj.params)
    params = load(context, device, dtype)
    from rich.console import Console

    from motive.validation.report import tables
    from motive.validation.run import validate as measure
    from motive.validation.settings import FULL, SMALL

    folder = "validation/small" if small else "validation"
    settings = SMALL if small else FULL
    if subsets:
        settings = replace(settings, num_subsets=subsets)  # of fewer halves the first are the same
    if workers:
        params = params.model_copy(update={"workers": workers})
    for table in tables(measure(params, settings, folder)):
        Console(markup=False).print(table)
    log.info("look at data/%s/validation.png and validation.json", folder)


@_ask("params profiles/paper.yaml")
def params(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Another file.", show_default="--params, params.yaml"),
    ] = None,
) -> None:
    """Check the parameters and explain each key."""
    if path:
        context.obj.params = path
    loaded = load(context)
    from motive.allowed import explain

    rows = ((row.key, row.value, row.meaning, row.allowed) for row in explain(loaded))
    print_table(["key", "value", "meaning", "allowed"], rows, title=str(context.obj.params))
