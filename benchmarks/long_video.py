"""A whole video through clips, optical flow and masks: what becomes of each second, and how long it takes.

    python -m benchmarks.long_video --json long_video.json

The video is Big Buck Bunny, (c) Blender Foundation, CC-BY 3.0; it is fetched with the tests' real clips.
"""

import json
import shutil
import tempfile
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from motive.params import Params, load_params
from motive.stages import clips, masks, optical_flow, run_stage
from motive.store.files import read_table
from testing.measuring import JsonFile, report, seconds
from testing.real_clips import real_clip

STRIDES = {"scale_factor_temporal": 4, "scale_factor_spatial": 8}  # of Wan2.1's VAE


def main(
    json_file: JsonFile = None,
    num_frames: Annotated[int, typer.Option(help="Frames of a clip, at 16 a second.")] = 33,
    keep: Annotated[Path | None, typer.Option(help="Copy the tables and images there.")] = None,
) -> None:
    """Cut the video into clips, find their motion, and print what became of its seconds."""
    params = settings(num_frames)
    video = real_clip("bbb.mp4")
    kept = keep and keep.resolve()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        numbers = measure(video, params)
        if kept:
            shutil.copytree("data", kept, dirs_exist_ok=True)
    report(numbers, json_file, "Big Buck Bunny, whole")


def settings(num_frames: int) -> Params:
    """The parameters of this folder, but of the paper's shape at half its size, and cut at shots."""
    values: dict[str, Any] = load_params().model_dump()
    values["clips"] |= {"num_frames": num_frames, "fps": 16.0, "height": 240, "width": 416, "cut": "shots"}
    values["clips"] |= {"source": dict.fromkeys(("pool", "queries", "heldout"), "videos")}
    values["clips"] |= {"missing_caption": "empty"}
    values["optical_flow"] |= {"stride": 8}
    values["model"]["path"] = "model"
    return Params.model_validate(values | {"workers": 1})


def measure(video: Path, params: Params) -> dict[str, float]:
    """Run the stages in the working folder and count."""
    Path("videos").mkdir()
    shutil.copyfile(video, "videos/bbb.mp4")
    Path("model/vae").mkdir(parents=True)
    Path("model/vae/config.json").write_text(json.dumps(STRIDES))
    spent = {
        f"seconds_{stage.__name__.rsplit('.')[-1]}": round(
            seconds(partial(run_stage, stage, params, "pool")), 1
        )
        for stage in (clips, optical_flow, masks)
    }
    return tally(Path("data/pool")) | spent


def tally(folder: Path) -> dict[str, float]:
    """What became of the video, from the tables."""
    shots: Any = read_table(folder / "clips/shots.parquet")
    table: Any = read_table(folder / "clips/clips.parquet")
    length = shots["end"] - shots["start"]
    used = shots["clip_id"] != ""
    still: Any = read_table(folder / "masks/mask_stats.parquet")["still"]
    duration = float(table["duration"].iloc[0])
    return {
        "video_seconds": duration,
        "num_shots": int(shots["shot"].nunique()),
        "num_clips": len(table),
        "clip_seconds": float(length[used].sum()),
        "num_rests": int((~used).sum()),
        "rest_seconds": float(length[~used].sum()),
        "lost_seconds": round(abs(duration - float(length.sum())), 6),
        "num_still": int(still.sum()),
        "num_failures": sum(
            len(pd.read_parquet(folder / stage / "failures.parquet"))
            for stage in ("clips", "optical_flow", "masks")
        ),
    }


if __name__ == "__main__":
    typer.run(main)
