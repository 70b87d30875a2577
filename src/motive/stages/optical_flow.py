"""Clips -> optical flow between adjacent frames, kept as vectors on a coarse grid."""

import logging
from functools import partial
from pathlib import Path

import pandas as pd

from motive.adapters.trackers import TRACKERS, keep_on_grid
from motive.formats import shards
from motive.formats.clips import clip_path, read_clips
from motive.formats.shards import Recipe, Tensors
from motive.formats.video import BadClip, read_frames
from motive.params import Params
from motive.workers import deal

log = logging.getLogger("motive")

VERSION = 1  # raise it when the meaning of `flow` changes
STANDARD = {"num_frames", "fps", "height", "width", "resample"}  # what read_frames makes of a clip
Job = tuple[str, Path]  # clip_id, video


def run(part: str, params: Params) -> None:
    """Write `data/PART/optical_flow`.

    Raises:
        ValueError: a video is gone since the clips stage, or a check failed.
    """
    clips, out = read_clips(part), Path("data") / part / "optical_flow"
    clip_ids, size = clips["clip_id"].tolist(), params.shards.size
    videos = dict(zip(clip_ids, map(clip_path, clips.itertuples()), strict=True))
    recipe = make_recipe(params)
    chunks = [
        [(clip_id, videos[clip_id]) for clip_id in ids] for ids in shards.pending(recipe, clip_ids, size)
    ]
    todo = sum(map(len, chunks))
    log.info(
        "optical_flow %s: %d clips, %d of them to do with %s",
        part,
        len(clips),
        todo,
        recipe.params["optical_flow"],
    )
    deal(partial(do_chunk, recipe=recipe), chunks, params.workers, total=todo, label=f"optical_flow {part}")
    failures = shards.publish(recipe, clip_ids, size, out)
    _check(out, clips, failures)
    log.info("optical_flow %s: %d done, %d failed", part, len(clips) - len(failures), len(failures))
    log.info("look at %s", out / ("failures.parquet" if len(failures) else "manifest.json"))


def make_recipe(params: Params) -> Recipe:
    """A clip id stands for the video and its caption, so what remains is how a clip is read and tracked."""
    sections = {
        "clips": params.clips.model_dump(mode="json", include=STANDARD),
        "optical_flow": params.optical_flow.model_dump(mode="json"),
    }
    return Recipe("optical_flow", VERSION, sections)


def do_chunk(chunk: list[Job], recipe: Recipe) -> int:
    """Track some clips and keep them; a clip that can't be decoded becomes a failure."""
    done: dict[str, Tensors] = {}
    failures: dict[str, str] = {}
    for clip_id, video in chunk:
        if not video.is_file():  # gone, not bad: remembered as a failure it would never be tried again
            raise ValueError(
                f"clip {clip_id}: {video} is missing; bring it back, or run the clips stage again"
            )
        try:
            frames = read_frames(video, **recipe.params["clips"])
        except BadClip as error:
            failures[clip_id] = str(error)
            continue
        settings = recipe.params["optical_flow"]
        flow = TRACKERS[settings["tracker"]](frames, settings["preset"])
        done[clip_id] = {"flow": keep_on_grid(flow, settings["stride"])}
    shards.write_part(recipe, done, failures)
    return len(chunk)


def _check(out: Path, clips: pd.DataFrame, failures: pd.DataFrame) -> None:
    from motive.checks import check

    check("optical_flow", shards.summarise(out, "flow"), clips=clips, failures=failures, file=out)
