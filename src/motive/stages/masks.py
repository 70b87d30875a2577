"""Optical flow -> motion masks on the model's latent grid, and how much each clip moves."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from motive import per_clip
from motive.clips.table import FRAME_KEYS, read_clips
from motive.images.motion import motion_sheet
from motive.images.panels import describe, read_panels
from motive.images.png import write_if_drawn
from motive.maths.camera_motion import KINDS, LABELS
from motive.models.folder import read_strides
from motive.params import Clips, Machine, Masks, OpticalFlow
from motive.store.files import write_table
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import Tensors, locate, read_clip_tensors, read_manifest, summarise
from motive.store.work import failed, pass_on_failures, publish, read_done, write_chunk
from motive.video.frames import evenly_spaced
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

VERSION = 3  # raise it when the meaning of a tensor changes
NUM_DRAWN = 8  # clips on the overlay sheet
MANY = 2000  # clips up to which masks are made sooner than a worker starts
STATS = {  # columns of mask_stats.parquet: see docs/data.md
    "clip_id": "str",
    "coverage": "float64",
    "motion": "float64",
    "own_motion": "float64",
    "still": "bool",
    "camera": "str",
    "motion_kind": "str",
    "inlier_ratio": "float64",
    "brightness": "float64",
}


class ClipFlow(NamedTuple):
    """A clip and the shard that holds its optical flow."""

    clip_id: str
    shard: Path


def run(
    split: str, *, clips: Clips, optical_flow: OpticalFlow, masks: Masks, model_path: str, machine: Machine
) -> None:
    """Write `data/SPLIT/masks`, with `mask_stats.parquet` and `overlay.png`.

    Raises:
        ValueError: optical flow is not finished, the clips don't fit the model's strides, or a check failed.
    """
    table = read_clips(split)
    flow_folder = stage_folder("optical_flow", split)
    out = stage_folder("masks", split)
    settings = mask_settings(clips, optical_flow, masks, model_path)
    recipe = make_recipe(clips, optical_flow, masks, model_path, read_manifest(flow_folder)["digest"])
    pass_on_failures(recipe, flow_folder)
    job = Job(
        label=f"masks {split}",
        recipe=recipe,
        ids=table["clip_id"].tolist(),
        size=machine.shard_size,
        make=partial(make_chunk, recipe, settings),
        inputs=_inputs(table["clip_id"].tolist(), recipe, flow_folder),
    )
    log.info("masks %s: %d clips on %s; %s", split, len(table), settings["grid"], _in_words(masks))
    make_missing([job], machine if len(table) > MANY else machine._replace(workers=1, ray=""))

    (out / "manifest.json").unlink(missing_ok=True)  # it is written last, by publish
    stats = mask_stats(recipe, job.ids)
    write_table(out / "mask_stats.parquet", stats)
    write_if_drawn(
        out / "overlay.png",
        partial(overlay, table, stats, recipe, flow_folder, clips, settings["time_stride"]),
    )
    failures = publish(recipe, job.ids, job.size, out)

    from motive.checks import check  # loads for seconds

    masks_and_stats = summarise(out, "mask").merge(stats, on="clip_id", how="left")
    check("masks", masks_and_stats, clips=table, failures=failures, file=out)
    log.info("masks %s: mean coverage %.3f, %d still", split, stats["coverage"].mean(), stats["still"].sum())
    for column in ("motion_kind", "camera"):
        log.info("masks %s: %s: %s", split, column.replace("_", " "), _counted(stats[column].tolist()))
    log.info("look at %s and %s", out / "overlay.png", out / "mask_stats.parquet")


def _inputs(clip_ids: list[str], recipe: Recipe, flow_folder: Path) -> dict[str, ClipFlow]:
    flows = locate(flow_folder)
    failures = failed(recipe)
    inputs = {}
    for clip_id in clip_ids:
        if clip_id in flows:
            inputs[clip_id] = ClipFlow(clip_id, flows[clip_id])
        elif clip_id not in failures:
            raise ValueError(f"{flow_folder}: clip {clip_id} has no optical flow; run `dvc repro`")
    return inputs


def make_recipe(
    clips: Clips, optical_flow: OpticalFlow, masks: Masks, model_path: str, flow_digest: str
) -> Recipe:
    """Optical flow stands for all it was made from; of the model only the strides matter."""
    settings = {
        "clips": clips.model_dump(mode="json", include=FRAME_KEYS),
        "masks": masks.model_dump(mode="json"),
        "strides": list(read_strides(model_path)),
        "reference": optical_flow.reference,
    }
    return Recipe("masks", VERSION, settings, {"optical_flow": flow_digest})


def mask_settings(clips: Clips, optical_flow: OpticalFlow, masks: Masks, model_path: str) -> dict[str, Any]:
    """What `per_clip.motion_mask` is given beside the optical flow.

    Raises:
        ValueError: the clips don't fit the model's strides.
    """
    time_stride, space_stride = read_strides(model_path)
    for name in ("height", "width"):
        size = getattr(clips, name)
        if size % space_stride:
            raise ValueError(
                f"clips.{name} is {size}, but {model_path} takes {space_stride} pixels a latent: "
                "use a multiple of it"
            )
    return {
        **masks.model_dump(),
        "grid": (clips.height // space_stride, clips.width // space_stride),
        "time_stride": time_stride,
        "fps": clips.fps,
        "reference": optical_flow.reference,
    }


def make_chunk(recipe: Recipe, settings: dict[str, Any], chunk: list[ClipFlow]) -> int:
    """Make and keep the masks of some clips; `settings` as `per_clip.motion_mask` takes them."""
    where = dict(chunk)
    clips = {}
    for clip_id, flow in read_clip_tensors(where, list(where)):
        clips[clip_id] = per_clip.motion_mask(flow, **settings)
    write_chunk(recipe, clips, {})
    return len(chunk)


# ---- how the clips move


def mask_stats(recipe: Recipe, clip_ids: list[str]) -> pd.DataFrame:
    """A row for each clip that has a mask, in this order."""
    facts = {clip_id: _facts(clip) for clip_id, clip in read_done(recipe, clip_ids)}
    rows = [{"clip_id": clip_id, **facts[clip_id]} for clip_id in clip_ids if clip_id in facts]
    return pd.DataFrame(rows, columns=list(STATS)).astype(STATS)


def _facts(clip: Tensors) -> dict[str, Any]:
    return {
        "coverage": clip["mask"].float().mean().item(),
        "motion": clip["motion"].item(),
        "own_motion": clip["own_motion"].item(),
        "still": bool(clip["still"]),
        "camera": LABELS[int(clip["camera"])],
        "motion_kind": KINDS[int(clip["kind"])],
        "inlier_ratio": clip["inliers"].item(),
        "brightness": clip["brightness"].item(),
    }


def overlay(
    table: pd.DataFrame,
    stats: pd.DataFrame,
    recipe: Recipe,
    flow_folder: Path,
    clips: Clips,
    time_stride: int,
) -> np.ndarray:
    """Sheet u8 [H,W,3] of a few clips, evenly over the table, with their frames, optical flow and mask."""
    chosen = stats["clip_id"].iloc[evenly_spaced(len(stats), NUM_DRAWN)].tolist()
    masks = {clip_id: clip["mask"] for clip_id, clip in read_done(recipe, chosen)}
    rows = pd.DataFrame(table[table["clip_id"].isin(chosen)])
    panels = read_panels(rows, describe(stats), masks, flow_folder, clips.model_dump(include=FRAME_KEYS))
    return motion_sheet(list(panels), clips.fps, time_stride)


def _in_words(masks: Masks) -> str:
    if not masks.enabled:
        return "masks.enabled is false: weight 1 everywhere"
    least = f"below {masks.floor:g} pixels per second nothing moves" if masks.floor else "no floor: the paper"
    return f"{least}; the camera's motion is {'removed' if masks.camera == 'remove' else 'kept'}"


def _counted(values: list[str]) -> str:
    return ", ".join(f"{count} {value}" for value, count in Counter(values).most_common())
