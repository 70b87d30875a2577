"""What does it cost to ignore changes as small as a codec's? The figures of docs/decisions/0002.

    python benchmarks/codec_noise.py --json codec_noise.json

Draws clips that no other seed draws, stores them as H.264, reads them back and tracks them as the pipeline
does, with the rule of the tracker and without it.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import typer
from tqdm import tqdm

from motive.maths.motion_mask import is_still, magnitude
from motive.params import Params, load_params
from motive.trackers import dis
from motive.trackers import interface as trackers
from motive.video.reading import read_frames
from motive.video.writing import write_video
from toyworld import CAMERAS, MOTIONS, Clip, draw_clip, sample_scene

SEED = 5_000_005
BESIDE = 8  # pixels from an object within which a still place is beside it


class Row(NamedTuple):
    """One measure of one clip."""

    name: str
    without: float
    ruled: float


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips of each kind.")] = 50,
) -> None:
    """Track clips of known motion with and without the rule, and print a table."""
    cv2.setNumThreads(1)
    params = load_params()
    kinds = ("static", "moving", *CAMERAS)
    found = [row for kind in tqdm(kinds, unit="kind") for row in measures(kind, num_clips, params)]
    names = sorted({row.name for row in found})
    numbers: dict[str, float] = {"num_clips": num_clips}
    for name in names:
        numbers[f"{name}_without"] = float(np.mean([row.without for row in found if row.name == name]))
        numbers[f"{name}_with"] = float(np.mean([row.ruled for row in found if row.name == name]))
    print_table(names, numbers)
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def measures(kind: str, num_clips: int, params: Params) -> Iterator[Row]:
    """Yield what there is to measure of each clip of a kind, without the rule and with it."""
    c = params.clips
    for i in range(num_clips):
        rng = np.random.default_rng([SEED, i])
        scene = sample_scene(rng, MOTIONS[i % len(MOTIONS)] if kind == "moving" else kind)
        clip = draw_clip(scene, c.num_frames, c.fps)
        frames = through_codec(clip.frames, c.fps)
        with patch.object(dis, "_changed", lambda before, after: np.ones(before.shape, bool)):
            without = trackers.dis(frames, params.optical_flow.preset)
        ruled = trackers.dis(frames, params.optical_flow.preset)
        if kind == "static":
            yield Row("static_still", still(without, params), still(ruled, params))
        for name, where in regions(kind, clip).items():
            if where.any():
                yield Row(f"error_{name}", error(without, clip, where), error(ruled, clip, where))


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
    return float(np.hypot(*(flow[1:] - clip.flow[1:].astype(np.float32)).transpose(1, 0, 2, 3))[where].mean())


def print_table(names: list[str], numbers: dict[str, float]) -> None:
    """A row a measure."""
    from rich.console import Console
    from rich.table import Table

    title = "share of static clips that are still; mean error of the optical flow in px a frame"
    table = Table("", "without the rule", "with it", title=title, title_justify="left")
    for name in names:
        table.add_row(name, *(f"{numbers[f'{name}_{rule}']:.2f}" for rule in ("without", "with")))
    Console(markup=False, width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
