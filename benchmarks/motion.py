"""Does the mask show what moves, and not the camera? Numbers for docs/benchmarks.md.

    python benchmarks/motion.py --json motion.json

Draws clips of known motion that no other seed draws, runs the stages clips, optical_flow and masks on them as
params.yaml ships, and holds masks, camera labels and kinds against the truth. Then real clips, speed and
memory.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import motion_real, motion_speed
from motive.maths.motion_mask import to_latent_frames
from motive.maths.statistics import auc
from motive.models.folder import read_strides
from motive.params import Params, load_params
from motive.stages import clips, masks, optical_flow, run_stage
from motive.store import shards
from motive.video.writing import write_video
from testing.true_motion import left_or_entered
from toyworld import CAMERAS, HARMFUL_KINDS, MOTIONS, Clip, draw_clip, sample_scene
from toyworld.looks import before_telling_background
from toyworld.scenes import sample_camera

SEED = 7_000_007
SHARE = 0.6  # of the full strength of a camera beside a moving object, as in the world's own clips
MOVES = {"camera_pan": "pan or tilt", "camera_zoom": "zoom", "camera_shake": "shake"}
COVERED = (
    0.5  # of a latent cell that a moving object leaves or enters: then the cell shows it; less is neither
)
Group = tuple[str, str | None]  # kind of scene, and the camera put into it


class Drawn(NamedTuple):
    """A clip of known motion."""

    group: Group
    clip: Clip


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips of each kind.")] = 12,
    pictures: Annotated[Path | None, typer.Option(help="Write sheets of the real clips here.")] = None,
    only: Annotated[str, typer.Option(help="world, real, speed, or all.")] = "all",
) -> None:
    """Measure masks and camera labels on known and on real clips, speed and memory; print tables."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    params, numbers = absolute(load_params()), {}
    if only in ("all", "world"):
        numbers |= world(params, num_clips)
    if only in ("all", "real"):
        numbers |= motion_real.measure(params, pictures)
    if only in ("all", "speed"):
        numbers |= motion_speed.measure(params)
    print_numbers(numbers)
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def absolute(params: Params) -> Params:
    """The shipped parameters, usable from any folder."""
    path = params.model.path
    model = params.model.model_copy(
        update={"path": str(Path(path).resolve()) if Path(path).exists() else path}
    )
    return params.model_copy(update={"model": model})


def with_pool(params: Params, folder: Path) -> Params:
    """The same parameters with this folder as the pool, captions not needed."""
    source = params.clips.source | {"pool": str(folder)}
    found = params.clips.model_copy(update={"source": source, "missing_caption": "empty"})
    return params.model_copy(update={"clips": found})


# ---- the rendered world


def groups() -> list[Group]:
    """Every kind of scene the world has, and every motion before each moving camera."""
    alone: list[Group] = [(kind, None) for kind in ("static", *CAMERAS, *MOTIONS, *HARMFUL_KINDS)]
    return [*alone, *((motion, camera) for camera in CAMERAS for motion in MOTIONS)]


def world(params: Params, num_clips: int) -> dict[str, float]:
    """What masks and labels are worth on clips whose truth is known."""
    drawn = {f"{number:04d}.mp4": clip for number, clip in enumerate(draw(params, num_clips))}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, one in drawn.items():
            write_video(Path("pool") / name, one.clip.frames, params.clips.fps)
        here = with_pool(params, Path("pool"))
        for stage in (clips, optical_flow, masks):
            run_stage(stage, here, "pool")
        facts = pd.read_parquet("data/pool/clips/clips.parquet").merge(
            pd.read_parquet("data/pool/masks/mask_stats.parquet"), on="clip_id"
        )
        weights = dict(masks_of("data/pool/masks"))
        rows = [judge(drawn[row.video], row, weights[row.clip_id], here) for row in records(facts)]
    return summary(pd.DataFrame(rows), len(drawn))


def records(table: pd.DataFrame) -> list[Any]:
    """Rows as tuples with names."""
    return list(table.itertuples())


def masks_of(folder: str) -> Iterator[tuple[str, np.ndarray]]:
    """clip_id and mask [T,h,w] of each clip."""
    for path in shards.shard_paths(Path(folder)):
        for clip_id, tensors in shards.read_shard(path):
            yield clip_id, tensors["mask"].float().numpy()


def draw(params: Params, num_clips: int) -> Iterator[Drawn]:
    """`num_clips` of each group, at the moments at which the stages read them."""
    c = params.clips
    for group in groups():
        kind, camera = group
        for number in range(num_clips):
            rng = np.random.default_rng([SEED, number])
            scene = sample_scene(rng, kind)
            if camera:
                looks = before_telling_background(scene.looks)
                scene = replace(scene, camera=sample_camera(rng, camera, SHARE), looks=looks)
            yield Drawn(group, draw_clip(scene, c.num_frames, c.fps))


def judge(drawn: Drawn, row: Any, mask: np.ndarray, params: Params) -> dict[str, Any]:
    """One row of the table: what was said of a clip, and what is true."""
    kind, camera = drawn.group
    moving_camera = camera or (kind if kind in CAMERAS else "")
    objects = kind not in ("static", *CAMERAS)
    wanted = "both" if objects and camera else "object" if objects else "camera" if moving_camera else "still"
    share = covered(drawn.clip, params, mask.shape[1:])
    inside, clear = share > COVERED, (share > COVERED) | (share == 0)
    return {
        "group": f"{kind} {camera or ''}".strip(),
        "camera": moving_camera or "static",
        "wanted": wanted,
        "kind_right": row.motion_kind == wanted,
        "label_right": row.camera in MOVES.get(moving_camera, "static"),
        "uncertain": row.camera == "uncertain",
        "auc": auc(mask[inside], mask[~inside & clear]) if kind in MOTIONS else np.nan,
        "auc_strict": auc(mask[inside], mask[~inside]) if kind in MOTIONS else np.nan,
        "raw": row.motion_y,
        "own": row.own_motion,
        "empty": not mask.any(),
    }


def covered(clip: Clip, params: Params, size: tuple[int, ...]) -> np.ndarray:
    """How much of each latent cell shows an object that moves by itself: [T,h,w] in [0,1]."""
    least = params.masks.floor / params.clips.fps
    where = np.stack([left_or_entered(clip, frame, least) for frame in range(len(clip.frames))])
    cells = [cv2.resize(w.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) for w in where]
    stride = read_strides(params.model.path)[0]
    return to_latent_frames(torch.from_numpy(np.stack(cells)), stride).numpy()


def summary(table: pd.DataFrame, num_clips: int) -> dict[str, float]:
    """Flat numbers over all clips."""
    numbers: dict[str, float] = {"num_world_clips": num_clips}
    aucs: Any = table.groupby("camera")["auc"].mean()
    numbers |= {f"mask_auc_{name}": float(aucs[name]) for name in ("static", *CAMERAS)}
    numbers["mask_auc_moving_camera"] = float(np.mean([aucs[name] for name in CAMERAS]))
    strict: Any = table.groupby("camera")["auc_strict"].mean()
    numbers["mask_auc_static_strict"] = float(strict["static"])
    numbers["mask_auc_moving_camera_strict"] = float(np.mean([strict[name] for name in CAMERAS]))
    only: Any = table[table["wanted"] == "camera"]
    numbers["camera_only_residual_ratio"] = float(only["own"].sum() / only["raw"].sum())
    numbers["motion_kind_accuracy"] = float(np.mean(table["kind_right"]))
    kinds: Any = table.groupby("wanted")["kind_right"].mean()
    numbers |= {f"motion_kind_accuracy_{name}": float(value) for name, value in kinds.items()}
    moving: Any = table[table["camera"] != "static"]
    numbers["camera_label_accuracy"] = float(moving["label_right"].mean())
    numbers["camera_uncertain_fraction"] = float(moving["uncertain"].mean())
    still: Any = table[table["wanted"] == "still"]
    numbers["still_empty_fraction"] = float(still["empty"].mean())
    worst: Any = table.groupby("group")[["auc", "kind_right"]].mean()
    print(worst.sort_values("auc").round(3).head(8).to_string())
    return numbers


def print_numbers(numbers: dict[str, float]) -> None:
    """A row a number."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "")
    for name, value in numbers.items():
        table.add_row(name, f"{value:.4g}")
    Console(markup=False, width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
