"""Clips -> optical flow between adjacent frames, kept as vectors on a coarse grid."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from motive.adapters.trackers import Tracker, fingerprint, keep_on_grid, load_tracker
from motive.formats import shards
from motive.formats.clips import clip_path, clip_span, read_clips
from motive.formats.shards import Recipe, Tensors
from motive.formats.video import BadClip, stream_frames
from motive.params import Params
from motive.workers import deal

log = logging.getLogger("motive")

VERSION = 2  # raise it when the meaning of `flow` changes
PLACES = {"weights", "repository", "device"}  # what lies at them decides; that is in the recipe's inputs
STANDARD = {"num_frames", "fps", "height", "width", "resample"}  # what stream_frames makes of a clip
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
    deal(do, chunks, params.workers, total=todo, label=f"optical_flow {part}")
    failures = shards.publish(recipe, clip_ids, size, out)
    _check(out, clips, failures)
    log.info("optical_flow %s: %d done, %d failed", part, len(clips) - len(failures), len(failures))
    log.info("look at %s", out / ("failures.parquet" if len(failures) else "manifest.json"))


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
            frames = stream_frames(video, **recipe.params["clips"], **span)
            done[clip_id] = track(frames, tracker, settings["stride"])
        except BadClip as error:
            failures[clip_id] = str(error)
    shards.write_part(recipe, done, failures)
    return len(chunk)


def track(frames: Iterator[np.ndarray], tracker: Tracker, stride: int) -> Tensors:
    """One clip's optical flow on the coarse grid; the frames stream by."""
    kept = [
        (keep_on_grid(flow, stride).half(), keep_on_grid(confidence, stride))
        for flow, confidence in tracker(frames)
    ]
    flow, confidence = (torch.stack(values) for values in zip(*kept, strict=True))
    return {"flow": flow, "confidence": (confidence * 255).round().to(torch.uint8)}


def _check(out: Path, clips: pd.DataFrame, failures: pd.DataFrame) -> None:
    from motive.checks import check

    check("optical_flow", shards.summarise(out, "flow"), clips=clips, failures=failures, file=out)
