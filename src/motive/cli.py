"""The `motive` command: one subcommand a stage, and the few others that people call."""

import logging
import os
import sys
import traceback
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motive.errors import TryAgain

if TYPE_CHECKING:
    from motive.params import Params

TRY_AGAIN = 75  # EX_TEMPFAIL of the system's own programs
PARAMS = Path("params.yaml")
FOR_ONCE: dict[str, str] = {}  # keys of its section `model` that the command line has
PART_STAGES = {
    "clips": "Read and standardise a folder of clips; broken files become rows with a reason.",
    "optical_flow": "Track how every pixel moves from frame to frame.",
    "masks": "Weigh each place and moment by how much moves there.",
    "latents": "Encode clips and captions as the backbone sees them.",
    "sketches": "Project each clip's motion-weighted gradient to a short vector.",
}
STAGES = {
    "attribution": "Compare pool with queries: the influence of each clip, and the votes.",
    "curation": "Choose the subset to train on.",
    "finetuning": "Fine-tune the backbone on the subset.",
    "evaluation": "Measure base and tuned model side by side.",
    "track": "Record everything in MLflow, once.",
}
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

log = logging.getLogger("motive")
app = typer.Typer(
    help="Which training clips taught a video model its motion?",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `motive` command."""
    run_app(app)


def run_app(app: typer.Typer) -> None:
    """Run the command; a user's error is one red line on stderr and exit code 1, or 75 if it may pass."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except (ValueError, OSError) as error:  # the system's say which file: no space, no permission, gone
        if os.environ.get("MOTIVE_DEBUG"):
            traceback.print_exc()
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(TRY_AGAIN if isinstance(error, TryAgain) else 1)


@app.callback()
def start(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    device: Annotated[str | None, typer.Option(help="For once, instead of model.device: cuda:1.")] = None,
    dtype: Annotated[str | None, typer.Option(help="For once, instead of model.dtype: bfloat16.")] = None,
) -> None:
    FOR_ONCE.update(_given(device=device, dtype=dtype))
    if debug:
        os.environ["MOTIVE_DEBUG"] = "1"
    log_to_terminal(debug)


def log_to_terminal(debug: bool = False) -> None:
    """Log lines with their time go to stderr."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.DEBUG if debug else logging.INFO)


def _params() -> "Params":
    """params.yaml, with what `--device` and `--dtype` say."""
    from motive.params import load_params  # after a command's first line: it imports for a second

    return load_params(PARAMS, **FOR_ONCE)


def _run(stage: str, *parts: str) -> None:
    log.info("%s: starting with %s", " ".join((stage, *parts)), PARAMS)
    params = _params()
    from motive.recording.system import sampled
    from motive.stages import run_stage
    from motive.store.files import alone

    # A second run would pay for the same clips again. Fine-tuning is several processes by itself.
    with alone(f"{stage} {parts[0]}") if parts else nullcontext(), sampled("@".join((stage, *parts)), params):
        run_stage(import_module(f"motive.stages.{stage}"), params, *parts)


def _add_part_stage(stage: str, text: str) -> None:
    @app.command(stage, help=text, rich_help_panel="Stages of each part (pool, queries, heldout)")
    def command(part: Annotated[str, typer.Argument(help="A part of clips.source, e.g. pool.")]) -> None:
        _run(stage, part)


def _add_stage(stage: str, text: str) -> None:
    @app.command(stage, help=text, rich_help_panel="Stages where the parts meet")
    def command() -> None:
        _run(stage)


for _stage, _text in PART_STAGES.items():
    _add_part_stage(_stage, _text)
for _stage, _text in STAGES.items():
    if _stage != "track":
        _add_stage(_stage, _text)


@app.command(help=STAGES["track"], rich_help_panel="Stages where the parts meet")
def track(
    failed: Annotated[str, typer.Option(help="Record instead that this stage failed.")] = "",
    reason: Annotated[str, typer.Option(help="With --failed: what it said.")] = "",
) -> None:
    if not failed:
        _run("track")
        return
    log.info("track: %s failed", failed)
    from motive.params import load_params
    from motive.stages.track import fail

    fail(load_params(PARAMS), failed, reason)


# ---- what people call beside the stages; an option that is not given has the called function's own default


@app.command()
def show(
    clip: Annotated[str, typer.Argument(help="A clip_id, its beginning, or a file name.")],
    out: Annotated[Path | None, typer.Option(help="Where the picture goes.")] = None,
) -> None:
    """Show one clip: frames, optical flow, the same without the camera, mask, and what they say."""
    from rich.console import Console
    from rich.table import Table

    from motive.params import load_params
    from motive.show import show as shown

    facts, picture = shown(clip, load_params(PARAMS), out)
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(str(name), f"{value:.3f}" if isinstance(value, float) else str(value))
    Console(markup=False).print(table)
    log.info("look at %s", picture)


@app.command()
def query(
    video: Annotated[Path, typer.Argument(help="A video that shows the motion.")],
    caption: Annotated[str, typer.Option(help="What it shows, in the words of the pool's captions.")],
    top: Annotated[int, typer.Option(min=1, help="Clips printed, from both ends.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Where the picture goes.")] = None,
) -> None:
    """Ask a sketched pool about a new video: which clips teach its motion, and which teach against it."""
    log.info("query: %s against the sketches of data/pool", video)
    from rich.console import Console
    from rich.table import Table

    from motive.query import draw, query_pool
    from motive.stages.attribution import segment_of
    from motive.store.files import write_table

    picture, settings = out or Path(".motive/query") / f"{video.stem}.png", _params()
    if picture.suffix.lower() != ".png":
        raise ValueError(f"--out {picture}: it is a picture, and the table stands beside it: name it X.png")
    found = query_pool(video, caption, settings)
    heads = ["rank", "influence", "clip", "video", "caption"]
    table = Table(*heads, *(["most at"] if "segment_start" in found else []))
    ends: list[Any] = [*found.head(top).itertuples(), *found.iloc[top:].tail(top).itertuples()]
    for row in ends:
        cells = (row.clip_id, row.video, row.caption, segment_of(row))
        table.add_row(str(row.rank), f"{row.influence:+.3f}", *cells[: len(table.columns) - 2])
    Console(markup=False).print(table)
    write_table(picture.with_suffix(".parquet"), found)
    draw(found, video, caption, settings, picture)
    log.info("look at %s; all clips are in %s", picture, picture.with_suffix(".parquet"))


@app.command()
def sketch(
    append: Annotated[bool, typer.Option("--append", help="Read the pool's folder again first.")] = False,
) -> None:
    """Bring the pool's sketches up to date: with --append clips that came since cost only themselves."""
    for stage in PART_STAGES if append else ("sketches",):
        _run(stage, "pool")


@app.command()
def validate(
    small: Annotated[bool, typer.Option("--small", help="A quick look that proves nothing.")] = False,
    subsets: Annotated[int | None, typer.Option(min=2, help="Halves to train on, for the LDS.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Instead of workers in params.yaml.")] = None,
) -> None:
    """Is the attribution right? Retrain, remove, corrupt, and hold it against the truth.

    Needs the masks and latents of pool, queries and held-out clips. A killed run goes on where it stopped.
    """
    log.info("validate: starting with %s", PARAMS)
    from rich.console import Console

    from motive.validation.report import tables
    from motive.validation.run import validate as validated
    from motive.validation.settings import FULL, SMALL

    params = _params().model_copy(update=_given(workers=workers))
    root, settings = ("validation/small", SMALL) if small else ("validation", FULL)
    settings = replace(settings, **_given(num_subsets=subsets))  # of fewer halves the first are the same
    for table in tables(validated(params, settings, root)):
        Console(markup=False).print(table)
    log.info("look at data/%s/validation.png and validation.json", root)


@app.command()
def params(path: Annotated[Path, typer.Argument(help="A params file.")] = PARAMS) -> None:
    """Check params.yaml and explain each key."""
    from rich.console import Console
    from rich.table import Table

    from motive.params import explain, load_params

    table = Table("key", "value", "meaning", "allowed", title=str(path), title_justify="left")
    for row in explain(load_params(path)):
        table.add_row(row.key, str(row.value), row.meaning, row.allowed)
    Console(markup=False).print(table)


def _given(**options: object) -> dict:
    return {name: value for name, value in options.items() if value is not None}
