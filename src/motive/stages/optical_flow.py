"""Clips -> optical flow as vectors on a coarse grid, and the part of it that is not the camera's."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from motive import per_clip
from motive.clips.table import STANDARD, clip_path, clip_span, read_clips
from motive.images.motion import motion_sheet, write_png
from motive.images.panels import few, read_panels
from motive.maths.camera_motion import LABELS
from motive.params import Params
from motive.store import shards
from motive.store.shards import Recipe, Tensors
from motive.trackers.interface import fingerprint, load_tracker
from motive.video.reading import BadClip, stream_frames
from motive.workers.deal import deal

log = logging.getLogger("motive")

VERSION = 5  # raise it when the meaning of `flow`, `residual`, `camera` or `label` changes
PLACES = {"weights", "repository", "device"}  # what lies at them decides; that is in the recipe's inputs
SHOWN = 8  # clips on the sheet
Job = tuple[str, Path, dict[str, Any]]  # clip_id, video, which part of it


def run(part: str, params: Params) -> None:
    """Write `data/PART/optical_flow`.

    Raises:
        ValueError: a video is gone since the clips stage, or a check failed.
    """
    clips, out = read_clips(part), Path("data") / part / "optical_flow"
    clip_ids, size = clips["clip_id"].tolist(), params.shards.size
    records: list[Any] = list(clips.itertuples())
    jobs = {row.clip_id: (row.clip_id, clip_path(row), clip_span(row)) for row in records}
    recipe = make_recipe(params)
    chunks = [[jobs[clip_id] for clip_id in ids] for ids in shards.pending(recipe, clip_ids, size)]
    todo = sum(map(len, chunks))
    log.info(
        "optical_flow %s: %d clips, %d of them to do with %s",
        part,
        len(clips),
        todo,
        recipe.params["optical_flow"],
    )
    do = partial(do_chunk, recipe=recipe, settings=params.optical_flow.model_dump())
    device = "cpu" if params.optical_flow.tracker == "dis" else params.optical_flow.device
    deal(do, chunks, params.workers, todo, f"optical_flow {part}", device, params.ray)
    failures = shards.publish(recipe, clip_ids, size, out)
    _check(out, clips, failures)
    write_png(out / "optical_flow.png", sheet(clips, out, recipe))
    log.info("optical_flow %s: %d done, %d failed", part, len(clips) - len(failures), len(failures))
    log.info("look at %s", out / ("failures.parquet" if len(failures) else "optical_flow.png"))


def make_recipe(params: Params) -> Recipe:
    """A clip id stands for the video and its caption, so what remains is how a clip is read and tracked."""
    settings = params.optical_flow
    unused = PLACES if settings.tracker == "dis" else PLACES | {"preset"}
    sections = {
        "clips": params.clips.model_dump(mode="json", include=STANDARD),
        "optical_flow": settings.model_dump(mode="json", exclude=unused),
    }
    return Recipe("optical_flow", VERSION, sections, fingerprint(settings.model_dump()))


def do_chunk(chunk: list[Job], recipe: Recipe, settings: dict[str, Any]) -> int:
    """Track some clips and keep them; a clip that can't be decoded becomes a failure."""
    done: dict[str, Tensors] = {}
    failures: dict[str, str] = {}
    tracker = load_tracker(settings)
    for clip_id, video, span in chunk:
        if not video.is_file():  # gone, not bad: remembered as a failure it would never be tried again
            raise ValueError(
                f"clip {clip_id}: {video} is missing; bring it back, or run the clips stage again"
            )
        try:
            grey = settings["tracker"] == "dis"  # it needs no more, and that is read sooner
            frames = stream_frames(video, **recipe.params["clips"], **span, grey=grey)
            done[clip_id] = per_clip.optical_flow(
                frames,
                tracker,
                reference=settings["reference"],
                stride=settings["stride"],
                fps=recipe.params["clips"]["fps"],
            )
        except BadClip as error:
            failures[clip_id] = str(error)
    shards.write_part(recipe, done, failures)
    return len(chunk)


def sheet(clips: pd.DataFrame, out: Path, recipe: Recipe) -> np.ndarray:
    """Sheet u8 [H,W,3] of a few clips: frames, optical flow, the same without the camera, and its label."""
    tracked = list(shards.locate(out))
    chosen = [tracked[place] for place in few(len(tracked), SHOWN)]
    labels = {
        clip_id: LABELS[int(clip["label"])]
        for clip_id, clip in shards.read_clip_tensors(shards.locate(out), chosen)
    }
    words = {clip_id: f"{clip_id}   camera {label}" for clip_id, label in labels.items()}
    some, how = pd.DataFrame(clips[clips["clip_id"].isin(chosen)]), recipe.params["clips"]
    return motion_sheet(list(read_panels(some, words, {}, out, how)), how["fps"])


def _check(out: Path, clips: pd.DataFrame, failures: pd.DataFrame) -> None:
    from motive.checks import check

    check("optical_flow", shards.summarise(out, "flow"), clips=clips, failures=failures, file=out)
