"""Does the mask show what moves, and not the camera? Numbers for docs/benchmarks.md.

    python benchmarks/motion.py --json motion.json

Draws clips of known motion that no other seed draws, runs the stages clips, optical_flow and masks on them as
params.yaml ships, and holds masks, camera labels and kinds against the truth. Then real clips, and speed.
"""

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
from motive.video.writing import write_video
from testing.measuring import JsonFile, report
from testing.true_motion import left_or_entered
from toyworld import CAMERAS, HARMFUL_KINDS, MOTIONS, Clip, draw_clip, sample_scene
from toyworld.looks import before_telling_background
from toyworld.scenes import Scene, sample_camera

SEED = 7_000_007
SHARE = 0.6  # of the full strength of a camera beside a moving object, as in the world's own clips
MOVES = {"camera_pan": "pan or tilt", "camera_zoom": "zoom", "camera_shake": "shake"}
# Of a latent cell that a moving object leaves or enters: then the cell shows it; less is neither.
COVERED = 0.5
Group = tuple[str, str | None]  # kind of scene, and the camera put into it


class Drawn(NamedTuple):
    """A clip of known motion."""

    group: Group
    clip: Clip


def main(
    json_file: JsonFile = None,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips of each kind.")] = 12,
    images: Annotated[Path | None, typer.Option(help="Write a sheet of the real clips here.")] = None,
    only: Annotated[str, typer.Option(help="world, real, speed, or all.")] = "all",
) -> None:
    """Measure masks and camera labels on rendered and on real clips, and speed; print tables."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    params = absolute(load_params())
    numbers: dict[str, float] = {}
    if only in ("all", "world"):
        numbers |= world(params, num_clips)
    if only in ("all", "real"):
        numbers |= motion_real.measure(params, images)
    if only in ("all", "speed"):
        numbers |= motion_speed.measure(params)
    report(numbers, json_file)


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
    read = params.clips.model_copy(update={"source": source, "missing_caption": "empty"})
    return params.model_copy(update={"clips": read})


# ---- the rendered world


def groups() -> list[Group]:
    """Every kind of scene the world has, and every motion before each moving camera."""
    alone: list[Group] = [(kind, None) for kind in ("static", *CAMERAS, *MOTIONS, *HARMFUL_KINDS)]
    return [*alone, *((motion, camera) for camera in CAMERAS for motion in MOTIONS)]


def world(params: Params, num_clips: int) -> dict[str, float]:
    """What masks and labels are worth on clips whose truth is known."""
    drawn = list(draw(params, num_clips))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for number, (_, clip) in enumerate(drawn):
            write_video(Path("pool") / f"{number:04d}.mp4", clip.frames, params.clips.fps)
        rows = motion_real.pool_rows(with_pool(params, Path("pool")))
        masks = motion_real.masks_of([row["clip_id"] for row in rows])
    table = pd.DataFrame(
        judge(drawn[int(Path(row["video"]).stem)], row, masks[row["clip_id"]].float().numpy(), params)
        for row in rows
    )
    return summary(table, len(drawn))


def draw(params: Params, num_clips: int) -> Iterator[Drawn]:
    """`num_clips` of each group, at the moments at which the stages read them."""
    c = params.clips
    for group in groups():
        kind, camera = group
        for number in range(num_clips):
            scene = compose(np.random.default_rng([SEED, number]), kind, camera)
            yield Drawn(group, draw_clip(scene, c.num_frames, c.fps))


def compose(rng: np.random.Generator, kind: str, camera: str | None) -> Scene:
    """A scene of a kind, if wished before a moving camera."""
    scene = sample_scene(rng, kind)
    if camera is None:
        return scene
    looks = before_telling_background(scene.looks)
    return replace(scene, camera=sample_camera(rng, camera, SHARE), looks=looks)


def judge(drawn: Drawn, row: dict[str, Any], mask: np.ndarray, params: Params) -> dict[str, Any]:
    """One row of the table: what was said of a clip, and what is true."""
    kind, camera = drawn.group
    moving_camera = camera or (kind if kind in CAMERAS else "")
    wanted = true_kind(kind, moving_camera)
    verdict = {
        "group": f"{kind} {camera or ''}".strip(),
        "camera": moving_camera or "static",
        "wanted": wanted,
        "kind_right": row["motion_kind"] == wanted,
        "label_right": row["camera"] in MOVES.get(moving_camera, "static"),
        "uncertain": row["camera"] == "uncertain",
        "raw": row["motion_y"],
        "own": row["own_motion"],
        "empty": not mask.any(),
        "auc": np.nan,
        "auc_strict": np.nan,
    }
    if kind in MOTIONS:
        share = covered(drawn.clip, params, mask.shape[1:])
        inside = mask[share > COVERED]
        verdict["auc"] = auc(inside, mask[share == 0])
        verdict["auc_strict"] = auc(inside, mask[share <= COVERED])
    return verdict


def true_kind(kind: str, moving_camera: str) -> str:
    """What `motion_kind` should say of a scene."""
    if kind in ("static", *CAMERAS):
        return "camera" if moving_camera else "still"
    return "both" if moving_camera else "object"


def covered(clip: Clip, params: Params, size: tuple[int, ...]) -> np.ndarray:
    """How much of each latent cell shows an object that moves by itself: [T,h,w] in [0,1]."""
    least = params.masks.floor / params.clips.fps
    where = [left_or_entered(clip, frame, least) for frame in range(len(clip.frames))]
    cells = [cv2.resize(w.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) for w in where]
    stride = read_strides(params.model.path)[0]
    return to_latent_frames(torch.from_numpy(np.stack(cells)), stride).numpy()


def summary(table: pd.DataFrame, num_clips: int) -> dict[str, float]:
    """Flat numbers over all clips; prints the groups whose masks are worst."""
    worst: Any = table.groupby("group")[["auc", "kind_right"]].mean()
    print(worst.sort_values("auc").round(3).head(8).to_string())
    aucs: Any = table.groupby("camera")["auc"].mean()
    strict: Any = table.groupby("camera")["auc_strict"].mean()
    kinds: Any = table.groupby("wanted")["kind_right"].mean()
    camera_alone: Any = table[table["wanted"] == "camera"]
    moving: Any = table[table["camera"] != "static"]
    still: Any = table[table["wanted"] == "still"]
    return {
        "num_world_clips": num_clips,
        **{f"mask_auc_{name}": float(aucs[name]) for name in ("static", *CAMERAS)},
        "mask_auc_moving_camera": float(np.mean([aucs[name] for name in CAMERAS])),
        "mask_auc_static_strict": float(strict["static"]),
        "mask_auc_moving_camera_strict": float(np.mean([strict[name] for name in CAMERAS])),
        "camera_only_residual_ratio": float(camera_alone["own"].sum() / camera_alone["raw"].sum()),
        "motion_kind_accuracy": float(np.mean(table["kind_right"])),
        **{f"motion_kind_accuracy_{name}": float(value) for name, value in kinds.items()},
        "camera_label_accuracy": float(moving["label_right"].mean()),
        "camera_uncertain_fraction": float(moving["uncertain"].mean()),
        "still_empty_fraction": float(still["empty"].mean()),
    }


if __name__ == "__main__":
    typer.run(main)
