"""Clips -> optical flow as vectors on a coarse grid, and what of it is not the camera's."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from motive import per_clip
from motive.clips.table import FRAME_KEYS, read_clips
from motive.clips.videos import ClipVideo, check_there, clip_videos
from motive.images.motion import motion_sheet
from motive.images.panels import read_panels
from motive.images.png import write_if_drawn
from motive.maths.camera_motion import LABELS
from motive.params import Clips, Machine, OpticalFlow
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import Tensors, locate, read_clip_tensors, summarise
from motive.store.work import Failure, publish, write_chunk
from motive.trackers.interface import fingerprint, load_tracker
from motive.video.frames import evenly_spaced
from motive.video.reading import BadClip, stream_frames
from motive.workers.missing import make_missing

log = logging.getLogger("motive")

VERSION = 5  # raise it when the meaning of `flow`, `residual`, `camera` or `label` changes
PLACES = {"weights", "repository", "device"}  # what lies at them decides; that is in the recipe's inputs
NUM_DRAWN = 8  # clips on the sheet


def run(split: str, *, clips: Clips, optical_flow: OpticalFlow, machine: Machine) -> None:
    """Write `data/SPLIT/optical_flow`.

    Raises:
        ValueError: a video is gone since the clips stage, or a check failed.
    """
    table = read_clips(split)
    out = stage_folder("optical_flow", split)
    recipe = make_recipe(clips, optical_flow)
    job = Job(
        label=f"optical_flow {split}",
        recipe=recipe,
        ids=table["clip_id"].tolist(),
        size=machine.shard_size,
        make=partial(make_chunk, recipe, clips, optical_flow),
        inputs=clip_videos(table),
    )
    log.info("optical_flow %s: %d clips by %s", split, len(table), recipe.params["optical_flow"])
    make_missing([job], machine, "cpu" if optical_flow.tracker == "dis" else optical_flow.device)
    failures = publish(recipe, job.ids, job.size, out)

    from motive.checks import check  # loads for seconds

    check("optical_flow", summarise(out, "flow"), clips=table, failures=failures, file=out)
    write_if_drawn(out / "optical_flow.png", partial(sheet, table, out, clips))
    log.info("optical_flow %s: %d done, %d failed", split, len(table) - len(failures), len(failures))
    log.info("look at %s", out / ("failures.parquet" if len(failures) else "optical_flow.png"))


def make_recipe(clips: Clips, optical_flow: OpticalFlow) -> Recipe:
    """A clip id stands for the video and its caption; the rest is how frames and optical flow are made."""
    unused = PLACES if optical_flow.tracker == "dis" else PLACES | {"preset"}
    settings = {
        "clips": clips.model_dump(mode="json", include=FRAME_KEYS),
        "optical_flow": optical_flow.model_dump(mode="json", exclude=unused),
    }
    return Recipe("optical_flow", VERSION, settings, fingerprint(optical_flow.model_dump()))


def make_chunk(recipe: Recipe, clips: Clips, optical_flow: OpticalFlow, chunk: list[ClipVideo]) -> int:
    """Make and keep the optical flow of some clips; one that can't be decoded becomes a failure."""
    standard = clips.model_dump(include=FRAME_KEYS)
    tracker = load_tracker(optical_flow.model_dump())
    is_grey = optical_flow.tracker == "dis"  # it needs no more, and that is read sooner
    flows: dict[str, Tensors] = {}
    failures: dict[str, Failure] = {}
    for clip in chunk:
        check_there(clip)
        try:
            flows[clip.clip_id] = per_clip.optical_flow(
                stream_frames(clip.path, **standard, **clip.span, grey=is_grey),
                tracker,
                reference=optical_flow.reference,
                stride=optical_flow.stride,
                fps=clips.fps,
            )
        except BadClip as error:
            failures[clip.clip_id] = Failure("unreadable", str(error))
    write_chunk(recipe, flows, failures)
    return len(chunk)


def sheet(table: pd.DataFrame, folder: Path, clips: Clips) -> np.ndarray:
    """Sheet u8 [H,W,3] of a few clips: frames, optical flow, the same without the camera, and its label."""
    where = locate(folder)
    clip_ids = list(where)
    chosen = [clip_ids[row] for row in evenly_spaced(len(clip_ids), NUM_DRAWN)]
    titles = {}
    for clip_id, clip in read_clip_tensors(where, chosen):
        titles[clip_id] = f"{clip_id}   camera {LABELS[int(clip['label'])]}"
    rows = pd.DataFrame(table[table["clip_id"].isin(chosen)])
    panels = read_panels(rows, titles, {}, folder, clips.model_dump(include=FRAME_KEYS))
    return motion_sheet(list(panels), clips.fps)
