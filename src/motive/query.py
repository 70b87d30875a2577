"""`motive query`: which stored pool clips teach the motion of a new video, and which teach against it."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from motive import per_clip
from motive.clips.ranking import with_best_segment, words_of
from motive.clips.table import FRAME_KEYS, clip_path, clip_span, read_clips
from motive.images.png import write_png
from motive.images.sheets import Strip, clip_strip, strip_sheet
from motive.maths.camera_motion import LABELS
from motive.maths.influence import influence, measure
from motive.params import Clips, Params
from motive.stages import attribution, latents, masks, optical_flow, sketches
from motive.store.layout import stage_folder
from motive.store.recipes import deciding, differences
from motive.store.shards import read_manifest
from motive.trackers.interface import load_tracker
from motive.video.reading import BadClip, read_frames, stream_frames

log = logging.getLogger("motive")

NUM_DRAWN = 5  # best and worst clips in the image


def query_pool(video: Path, caption: str, params: Params) -> pd.DataFrame:
    """Every pool clip, best first: `rank`, `influence` on this video, and the clip table's columns.

    Raises:
        ValueError: the video can't be read or nothing moves in it, or the pool is not as params.yaml says.
    """
    _check_pool(params)
    try:
        sketch = sketch_video(video, caption, params)
    except (BadClip, FloatingPointError) as error:
        raise ValueError(f"{video}: {error}") from None
    return _rank_pool(sketch, params)


def _check_pool(params: Params) -> None:
    """What the pool's stages have published must be what these params would make.

    Raises:
        ValueError: it is not; says what differs.
    """
    flow_digest = read_manifest(stage_folder("optical_flow", "pool"))["digest"]
    recipes = [
        optical_flow.make_recipe(params.clips, params.optical_flow),
        masks.make_recipe(params.clips, params.optical_flow, params.masks, params.model.path, flow_digest),
        latents.make_recipe(params.clips, params.latents, params.model),
        sketches.make_recipe("pool", params.sketches, params.model, params.latents),
    ]
    for recipe in recipes:
        folder = stage_folder(recipe.stage, "pool")
        lines = differences(deciding(read_manifest(folder)), deciding(json.loads(recipe.to_json())))
        if lines:
            raise ValueError(
                f"{folder} was made in another way; run `dvc repro`. What differs, there and by params.yaml: "
                + "; ".join(lines)
            )


def sketch_video(video: Path, caption: str, params: Params) -> Tensor:
    """The sketch [K,D] of one video, in float32: optical flow, mask, latent, gradient.

    Raises:
        BadClip: it can't be read, or nothing moves in it.
        FloatingPointError: its latent, loss or gradient is no number.
    """
    if not video.is_file():
        raise BadClip("no_file", "there is no such file")
    standard = params.clips.model_dump(include=FRAME_KEYS)
    flow = per_clip.optical_flow(
        stream_frames(video, **standard, grey=params.optical_flow.tracker == "dis"),
        load_tracker(params.optical_flow.model_dump()),
        reference=params.optical_flow.reference,
        stride=params.optical_flow.stride,
        fps=params.clips.fps,
    )
    settings = masks.mask_settings(params.clips, params.optical_flow, params.masks, params.model.path)
    mask = per_clip.motion_mask(flow, **settings)["mask"]
    camera = LABELS[int(flow["label"])]
    if not mask.any():
        reason = f"nothing moves in it but the camera ({camera}): see masks.camera and masks.floor"
        raise BadClip("no_motion", reason)
    log.info("query: weight %.3f of 1 on average, camera %s", mask.float().mean(), camera)

    max_tokens = params.latents.max_tokens
    clip = per_clip.encode_clip(
        read_frames(video, **standard),
        caption,
        **latents.load(params.model.path, params.model.dtype, params.model.device, params.model.condition),
        max_tokens=max_tokens,
    )
    sketch = sketches.sketcher(params.sketches, params.model, max_tokens, "float32", params.clips.fps)
    return sketch(clip, mask)["sketch"]


def _rank_pool(sketch: Tensor, params: Params) -> pd.DataFrame:
    pool = read_clips("pool")
    ok, stored = attribution.aligned(pool, stage_folder("sketches", "pool"))
    usable = torch.from_numpy(ok)
    measured = measure(stored, usable, params.attribution.method, params.attribution.damping)
    values = influence(stored, sketch[None], usable, measured)[:, 0].numpy()
    segments = attribution.segment_table(pool, sketch[None], measured, ok, params.clips)
    table = _best_first(pool["clip_id"].to_numpy()[ok], values[ok])
    return with_best_segment(table, segments).merge(pool, on="clip_id", how="left")


def _best_first(clip_ids: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """`rank`, `influence` and `clip_id` of clips whose influence is `values`; row order where it is equal."""
    order = np.argsort(-values, kind="stable")
    return pd.DataFrame({"rank": range(len(order)), "influence": values[order], "clip_id": clip_ids[order]})


# ---- the image


def draw(table: pd.DataFrame, video: Path, caption: str, params: Params, out: Path) -> None:
    """Write two rows: the video and the clips that teach its motion, and those that teach against it.

    Raises:
        ValueError: a clip's file can't be read any more; says which.
    """
    clips = params.clips
    query = _strip(video, {}, caption, clips)
    best = [_clip_strip(row, clips) for row in table.head(NUM_DRAWN).itertuples()]
    worst = [_clip_strip(row, clips) for row in table.iloc[::-1].head(NUM_DRAWN).itertuples()]
    heads = ["the video", *(f"{n}" for n in range(1, NUM_DRAWN + 1))]
    write_png(out, strip_sheet(heads, [("for", [query, *best]), ("against", [query, *worst])]))


def _clip_strip(row: Any, clips: Clips) -> Strip:
    return _strip(clip_path(row), clip_span(row), words_of(row), clips)


def _strip(path: Path, span: dict[str, Any], words: str, clips: Clips) -> Strip:
    try:
        return Strip(clip_strip(path, span, clips), words)
    except (BadClip, OSError) as error:
        raise ValueError(f"no image: {path}: {error}") from None
