"""A whole film through clips, optical flow and masks: what becomes of every second, and how long it takes.

    python -m benchmarks.film --json film.json

The film is Big Buck Bunny, (c) Blender Foundation, CC-BY 3.0; it is fetched with the tests' real clips.
"""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pandas as pd
import typer

from motive.params import Params, load_params
from motive.stages import clips, masks, optical_flow, run_stage
from motive.store.files import read_table
from testing.real_clips import real_clip

STRIDES = {"scale_factor_temporal": 4, "scale_factor_spatial": 8}  # of Wan2.1's VAE


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    num_frames: Annotated[int, typer.Option(help="Frames of a clip, at 16 a second.")] = 33,
    keep: Annotated[Path | None, typer.Option(help="Copy the tables and pictures there.")] = None,
) -> None:
    """Cut the film into clips, track them, and print what became of its seconds."""
    params, film, here = settings(num_frames), real_clip("bbb.mp4"), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            numbers = measure(film, params)
            if keep:
                shutil.copytree("data", here / keep, dirs_exist_ok=True)
        finally:
            os.chdir(here)
    print_table(numbers)
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def settings(num_frames: int) -> Params:
    """The parameters of this folder, but of the paper's shape at half its size, and cut at shots."""
    values: dict[str, Any] = load_params().model_dump()
    values["clips"] |= {"num_frames": num_frames, "fps": 16.0, "height": 240, "width": 416, "cut": "shots"}
    values["clips"] |= {"source": dict.fromkeys(("pool", "queries", "heldout"), "film")}
    values["clips"] |= {"missing_caption": "empty"}
    values["optical_flow"] |= {"stride": 8}
    values["model"]["path"] = "model"
    return Params.model_validate(values | {"workers": 1})


def measure(film: Path, params: Params) -> dict[str, float]:
    """Run the stages in the working folder and count."""
    Path("film").mkdir()
    shutil.copyfile(film, "film/bbb.mp4")
    Path("model/vae").mkdir(parents=True)
    Path("model/vae/config.json").write_text(json.dumps(STRIDES))
    seconds = {stage.__name__.rsplit(".")[-1]: timed(stage, params) for stage in (clips, optical_flow, masks)}
    folder = Path("data/pool")
    return tally(folder) | {f"seconds_{name}": round(spent, 1) for name, spent in seconds.items()}


def timed(stage: ModuleType, params: Params) -> float:
    """Wall time of a stage."""
    start = time.perf_counter()
    run_stage(stage, params, "pool")
    return time.perf_counter() - start


def tally(folder: Path) -> dict[str, float]:
    """What became of the film, from the tables."""
    shots: Any = read_table(folder / "clips/shots.parquet")
    table: Any = read_table(folder / "clips/clips.parquet")
    length, used = shots["end"] - shots["start"], shots["clip_id"] != ""
    stages = ("clips", "optical_flow", "masks")
    failures = [len(pd.read_parquet(folder / stage / "failures.parquet")) for stage in stages]
    duration = float(table["duration"].iloc[0])
    still: Any = read_table(folder / "masks/mask_stats.parquet")["still"]
    return {
        "film_seconds": duration,
        "num_shots": int(shots["shot"].nunique()),
        "num_clips": len(table),
        "clip_seconds": float(length[used].sum()),
        "num_rests": int((~used).sum()),
        "rest_seconds": float(length[~used].sum()),
        "lost_seconds": round(abs(duration - float(length.sum())), 6),
        "num_still": int(still.sum()),
        "num_failures": sum(failures),
    }


def print_table(numbers: dict[str, float]) -> None:
    """A row a number."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title="Big Buck Bunny, whole", title_justify="left", show_header=False)
    for name, value in numbers.items():
        table.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    Console(markup=False, width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
