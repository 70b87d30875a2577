"""Optical flow -> motion masks on the model's latent grid, and how much each clip moves."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from motive import per_clip
from motive.clips.table import STANDARD, read_clips
from motive.images.motion import motion_sheet, write_png
from motive.images.panels import describe, few, read_panels
from motive.maths.camera_motion import KINDS, LABELS
from motive.models.folder import read_strides
from motive.params import Params
from motive.store import shards
from motive.store.files import read_table, write_table
from motive.store.shards import Recipe, Tensors
from motive.workers.deal import deal

log = logging.getLogger("motive")

VERSION = 3  # raise it when the meaning of a tensor changes
SHOWN = 8  # clips on the overlay sheet
MANY = 2000  # clips up to which masks are made sooner than a worker starts
Job = tuple[Path, set[str]]  # a shard of optical flow, and which of its clips to do


def run(part: str, params: Params) -> None:
    """Write `data/PART/masks`, with `mask_stats.parquet` and `overlay.png`.

    Raises:
        ValueError: optical flow is not finished, the clips don't fit the model's strides, or a check failed.
    """
    folder = Path("data") / part
    clips, out = read_clips(part), folder / "masks"
    recipe = make_recipe(params, shards.read_manifest(folder / "optical_flow"))
    jobs = _jobs(recipe, folder / "optical_flow")
    todo = sum(len(ids) for _, ids in jobs)
    log.info(
        "masks %s: %d clips, %d of them to do, on %s; %s", part, len(clips), todo, _grid(recipe), _how(params)
    )
    num_workers, ray = (params.workers, params.ray) if todo > MANY else (1, "")
    do = partial(do_shard, recipe=recipe, settings=mask_settings(params))
    deal(do, jobs, num_workers, todo, f"masks {part}", ray=ray)
    _pass_on(recipe, folder / "optical_flow")
    (out / "manifest.json").unlink(missing_ok=True)  # it is written last, by publish
    stats = mask_stats(recipe, clips["clip_id"].tolist())
    write_table(out / "mask_stats.parquet", stats)
    write_png(out / "overlay.png", overlay(clips, stats, folder, recipe))
    failures = shards.publish(recipe, clips["clip_id"].tolist(), params.shards.size, out)
    _check(out, clips, failures, stats)
    log.info("masks %s: mean coverage %.3f, %d still", part, stats["coverage"].mean(), stats["still"].sum())
    for column in ("motion_kind", "camera"):
        log.info("masks %s: %s: %s", part, column.replace("_", " "), _counted(stats[column].tolist()))
    log.info("look at %s and %s", out / "overlay.png", out / "mask_stats.parquet")


def make_recipe(params: Params, flow_manifest: dict[str, Any]) -> Recipe:
    """Optical flow stands for all it was made from; of the model only the strides matter."""
    sections = {
        "clips": params.clips.model_dump(mode="json", include=STANDARD),
        "masks": params.masks.model_dump(mode="json"),
        "strides": list(read_strides(params.model.path)),
        "reference": params.optical_flow.reference,
    }
    _check_fits(sections, params.model.path)
    return Recipe("masks", VERSION, sections, {"optical_flow": flow_manifest["digest"]})


def _check_fits(sections: dict[str, Any], model: str) -> None:
    space = sections["strides"][1]
    for name in ("height", "width"):
        if (value := sections["clips"][name]) % space:
            raise ValueError(
                f"clips.{name} is {value}, but {model} takes {space} pixels a latent: use a multiple of it"
            )


def do_shard(job: Job, recipe: Recipe, settings: dict[str, Any]) -> int:
    """Make the masks of one shard of optical flow; `settings` as `per_clip.motion_mask` takes them."""
    path, wanted = job
    clips = {one: per_clip.motion_mask(clip, **settings) for one, clip in shards.read_shard(path, wanted)}
    shards.write_part(recipe, clips, {})
    return len(wanted)


def mask_settings(params: Params) -> dict[str, Any]:
    """What `per_clip.motion_mask` is told: the section `masks`, and the model's latent grid."""
    time_stride, space = read_strides(params.model.path)
    return {
        **params.masks.model_dump(),
        "grid": (params.clips.height // space, params.clips.width // space),
        "time_stride": time_stride,
        "fps": params.clips.fps,
        "reference": params.optical_flow.reference,
    }


def mask_stats(recipe: Recipe, clip_ids: list[str]) -> pd.DataFrame:
    """What docs/data.md says of `mask_stats.parquet`, in row order."""
    types = {
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
    rows = {clip_id: (clip_id, *_facts(clip)) for clip_id, clip in shards.read_done(recipe, clip_ids)}
    in_order = [rows[clip_id] for clip_id in clip_ids if clip_id in rows]
    return pd.DataFrame(in_order, columns=list(types)).astype(types)


def _facts(clip: Tensors) -> tuple[float, float, float, bool, str, str, float, float]:
    coverage, motion = clip["mask"].float().mean().item(), clip["motion"].item()
    labels = LABELS[int(clip["camera"])], KINDS[int(clip["kind"])]
    rest = clip["inliers"].item(), clip["brightness"].item()
    return coverage, motion, clip["own_motion"].item(), bool(clip["still"]), *labels, *rest


def overlay(clips: pd.DataFrame, stats: pd.DataFrame, folder: Path, recipe: Recipe) -> np.ndarray:
    """Sheet u8 [H,W,3] of a few clips, evenly over the table, with their frames, optical flow and mask."""
    chosen = stats["clip_id"].iloc[few(len(stats), SHOWN)].tolist()
    masks = {clip_id: clip["mask"] for clip_id, clip in shards.read_done(recipe, chosen)}
    how, some = recipe.params["clips"], pd.DataFrame(clips[clips["clip_id"].isin(chosen)])
    panels = read_panels(some, describe(stats), masks, folder / "optical_flow", how)
    return motion_sheet(list(panels), how["fps"], recipe.params["strides"][0])


def _jobs(recipe: Recipe, flow_folder: Path) -> list[Job]:
    known = shards.done(recipe).keys()
    jobs = [(path, set(shards.read_ids(path)) - known) for path in shards.shard_paths(flow_folder)]
    return [job for job in jobs if job[1]]


def _pass_on(recipe: Recipe, flow_folder: Path) -> None:
    """A clip without optical flow has no mask, for the same reason."""
    failures = read_table(flow_folder / "failures.parquet")
    known = shards.failed(recipe)
    reasons = zip(failures["clip_id"], failures["reason"], strict=True)
    new = {clip_id: f"optical_flow: {reason}" for clip_id, reason in reasons if clip_id not in known}
    if new:
        shards.write_part(recipe, {}, new)


def _grid(recipe: Recipe) -> tuple[int, int]:
    """(height, width) of the latent grid."""
    clips, space = recipe.params["clips"], recipe.params["strides"][1]
    return clips["height"] // space, clips["width"] // space


def _how(params: Params) -> str:
    if not params.masks.enabled:
        return "masks.enabled is false: weight 1 everywhere"
    floor, camera = params.masks.floor, params.masks.camera
    least = f"below {floor:g} pixels per second nothing moves" if floor else "no floor: the paper"
    return f"{least}; the camera's motion is {'removed' if camera == 'remove' else 'kept'}"


def _counted(values: list[str]) -> str:
    return ", ".join(f"{count} {value}" for value, count in Counter(values).most_common())


def _check(out: Path, clips: pd.DataFrame, failures: pd.DataFrame, stats: pd.DataFrame) -> None:
    from motive.checks import check

    table = shards.summarise(out, "mask").merge(stats, on="clip_id", how="left")
    check("masks", table, clips=clips, failures=failures, file=out)
