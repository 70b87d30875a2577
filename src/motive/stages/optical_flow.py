"""Clips -> optical flow as vectors on a coarse grid, and the part of it that is not the camera's."""

import logging
from collections.abc import Iterator
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from motive.clips.table import STANDARD, clip_path, clip_span, read_clips
from motive.images.motion import motion_sheet, write_png
from motive.images.panels import few, read_panels
from motive.maths.camera_motion import LABELS, between, camera_label, subtracts
from motive.params import Params
from motive.store import shards
from motive.store.shards import Recipe, Tensors
from motive.trackers.camera import Camera, View
from motive.trackers.interface import Tracker, fingerprint, keep_on_grid, load_tracker
from motive.video.frames import to_grey
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
            done[clip_id] = track(frames, tracker, settings, recipe.params["clips"]["fps"])
        except BadClip as error:
            failures[clip_id] = str(error)
    shards.write_part(recipe, done, failures)
    return len(chunk)


def track(frames: Iterator[np.ndarray], tracker: Tracker, settings: dict[str, Any], fps: float) -> Tensors:
    """One clip's optical flow on the coarse grid, and the camera's part in it; the frames stream by."""
    adjacent, stride = settings["reference"] == "adjacent", settings["stride"]
    camera, size = Camera(adjacent), (0, 0)
    flows, confidences, views, lights = [], [], [], []
    ours, theirs = tee(frames)
    for frame, tracked in zip(ours, tracker(theirs), strict=True):
        flow, size = keep_on_grid(tracked.flow, stride), frame.shape[:2]
        flows.append(flow.half())
        confidences.append((keep_on_grid(tracked.confidence, stride) * 255).round().to(torch.uint8))
        grey = to_grey(frame)
        views.append(camera.view(grey, flow.numpy()))
        lights.append(float(grey[::4, ::4].mean()))
    flow, confidence = torch.stack(flows), torch.stack(confidences)
    known = {"flow": flow, "confidence": confidence, "brightness": torch.tensor(lights).mean() / 255}
    return known | judge(flow, views, adjacent, fps, size)


def judge(
    flow: torch.Tensor, views: list[View], adjacent: bool, fps: float, size: tuple[int, ...]
) -> Tensors:
    """What the camera did in a clip, and the optical flow without it where that is certain."""
    matrices = torch.from_numpy(np.stack([view.matrix for view in views])).float()
    evidence = torch.tensor([(view.wins, view.losses, view.edges) for view in views])
    inliers = torch.tensor([view.inliers for view in views])
    steps = matrices if adjacent else between(matrices)
    label = camera_label(steps, evidence, inliers, fps, (size[0], size[1]))
    own = torch.from_numpy(np.stack([view.residual for view in views])).half()
    residual = torch.where(subtracts(label, evidence)[:, None, None, None], own, flow)
    number = torch.tensor(LABELS.index(label), dtype=torch.uint8)
    return {"residual": residual, "camera": matrices, "inliers": inliers, "label": number}


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
