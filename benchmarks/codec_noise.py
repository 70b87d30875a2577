"""What does it cost to ignore changes as small as a codec's? The figures of docs/decisions/0002.

    python benchmarks/codec_noise.py --json codec_noise.json

Draws clips that no other seed draws, stores them as H.264, reads them back and finds their optical flow as
the pipeline does, with the rule of the tracker and without it.
"""

import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import typer
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.maths.motion_mask import is_still, magnitude
from motive.params import Params, load_params
from motive.store.files import write_json
from motive.trackers import dis
from motive.trackers import interface as trackers
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.measuring import JsonFile
from toyworld import CAMERAS, MOTIONS, Clip, draw_clip, sample_scene

SEED = 5_000_005
BESIDE = 8  # pixels from an object within which a still place is beside it


class Row(NamedTuple):
    """One measure of one clip."""

    name: str
    without: float
    ruled: float


def main(
    json_file: JsonFile = None,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips of each kind.")] = 50,
) -> None:
    """Find the optical flow of rendered clips with and without the rule, and print a table."""
    cv2.setNumThreads(1)
    params = load_params()
    kinds = ("static", "moving", *CAMERAS)
    rows = chain.from_iterable(measures(kind, num_clips, params) for kind in tqdm(kinds, unit="kind"))
    means: Any = pd.DataFrame(rows).groupby("name").mean()
    print_table(means)
    if json_file:
        without = means["without"].add_suffix("_without").to_dict()
        ruled = means["ruled"].add_suffix("_with").to_dict()
        write_json(json_file, {"num_clips": num_clips, **without, **ruled})


def measures(kind: str, num_clips: int, params: Params) -> Iterator[Row]:
    """Yield what there is to measure of each clip of a kind, without the rule and with it."""
    for i in range(num_clips):
        motion = MOTIONS[i % len(MOTIONS)] if kind == "moving" else kind
        scene = sample_scene(np.random.default_rng([SEED, i]), motion)
        clip = draw_clip(scene, params.clips.num_frames, params.clips.fps)
        flows = optical_flows(through_codec(clip.frames, params.clips.fps), params.optical_flow.preset)
        if kind == "static":
            yield Row("static_still", *(still(flow, params) for flow in flows))
        for name, where in regions(kind, clip).items():
            if where.any():
                yield Row(f"error_{name}", *(error(flow, clip, where) for flow in flows))


def optical_flows(frames: np.ndarray, preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Without the rule of the tracker, and with it."""
    with patch.object(dis, "_changed", lambda before, after: np.ones(before.shape, bool)):
        without_rule = trackers.dis(frames, preset)
    return without_rule, trackers.dis(frames, preset)


def still(flow: np.ndarray, params: Params) -> float:
    """1 if the pipeline would call the clip still, else 0."""
    grid = trackers.keep_on_grid(flow, params.optical_flow.stride).float()
    return float(is_still(magnitude(grid), params.masks.floor / params.clips.fps))


def through_codec(frames: np.ndarray, fps: float) -> np.ndarray:
    """Frames [F,H,W,3] as they come back from an mp4 of the project's own settings."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "clip.mp4", frames, fps)
        height, width = frames.shape[1:3]
        return read_frames(Path(folder) / "clip.mp4", len(frames), fps, height, width, "window")


def regions(kind: str, clip: Clip) -> dict[str, np.ndarray]:
    """Where to measure: bool [F-1,H,W] by name, in the frame that a vector starts from."""
    before = clip.mask[:-1]
    if kind == "static":
        return {}
    if kind != "moving":
        return {kind: np.ones_like(before)}
    reach = np.ones((2 * BESIDE + 1, 2 * BESIDE + 1), np.uint8)
    near = np.stack([cv2.dilate(mask.astype(np.uint8), reach) > 0 for mask in before])
    return {"on_objects": before, "beside_objects": near & ~before}


def error(flow: np.ndarray, clip: Clip, where: np.ndarray) -> float:
    """Mean distance from the true vectors in a region, in pixels a frame."""
    x, y = (flow[1:] - clip.flow[1:].astype(np.float32)).transpose(1, 0, 2, 3)
    return float(np.hypot(x, y)[where].mean())


def print_table(means: Any) -> None:
    """A row a measure."""
    from rich.console import Console
    from rich.table import Table

    title = "share of static clips that are still; mean error of the optical flow in px a frame"
    table = Table("", "without the rule", "with it", title=title, title_justify="left")
    for name, row in means.iterrows():
        table.add_row(str(name), *(f"{value:.2f}" for value in row))
    Console(markup=False, width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
