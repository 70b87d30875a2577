"""`motive query`: which stored pool clips teach the motion of a new video, and which teach against it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from motive import per_clip
from motive.clips.table import STANDARD, clip_path, clip_span, read_clips
from motive.images.motion import write_png
from motive.images.sheets import Strip, clip_strip, strip_sheet
from motive.maths.camera_motion import LABELS
from motive.maths.influence import influence, measure
from motive.params import Params
from motive.stages import attribution, latents, masks, optical_flow, sketches
from motive.store.recipes import Recipe, deciding, differences
from motive.store.shards import read_manifest
from motive.trackers.interface import load_tracker
from motive.video.reading import BadClip, read_frames, stream_frames

log = logging.getLogger("motive")
POOL = Path("data/pool")
PICTURED = 5  # best and worst clips in the picture


def query_pool(video: Path, caption: str, params: Params) -> pd.DataFrame:
    """Every pool clip, best first: `rank`, `influence` on this video, and the clip table's.

    Raises:
        ValueError: the video can't be read or nothing moves in it, or the pool is not as params.yaml says.
    """
    works = latents.make_work(params), sketches.make_work(params, POOL)
    flow_recipe = optical_flow.make_recipe(params)
    mask_recipe = masks.make_recipe(params, read_manifest(POOL / "optical_flow"))
    for recipe in (flow_recipe, mask_recipe, works[0].recipe, works[1].recipe):
        _check_same(recipe)
    try:
        stored = _sketch(video, caption, params, works[1])
    except (BadClip, FloatingPointError) as error:
        raise ValueError(f"{video}: {error}") from None
    return _ranked(stored["sketch"], params)


def _check_same(recipe: Recipe) -> None:
    folder = POOL / recipe.stage
    if differ := differences(deciding(read_manifest(folder)), deciding(json.loads(recipe.to_json()))):
        raise ValueError(
            f"{folder} was made in another way; run `dvc repro`. What differs, there and by params.yaml: "
            + "; ".join(differ)
        )


def _sketch(video: Path, caption: str, params: Params, work: sketches.Work) -> dict[str, torch.Tensor]:
    """Optical flow, mask, latent, gradient of one video."""
    if not video.is_file():
        raise BadClip("there is no such file")
    settings = params.optical_flow
    standard = params.clips.model_dump(include=STANDARD)
    flow = per_clip.optical_flow(
        stream_frames(video, **standard, grey=settings.tracker == "dis"),
        load_tracker(settings.model_dump()),
        reference=settings.reference,
        stride=settings.stride,
        fps=params.clips.fps,
    )
    mask = per_clip.motion_mask(flow, **masks.mask_settings(params))["mask"]
    label = LABELS[int(flow["label"])]
    if not mask.any():
        raise BadClip(f"nothing moves in it but the camera ({label}): see masks.camera and masks.floor")
    log.info("query: weight %.3f of 1 on average, camera %s", mask.float().mean(), label)
    clip = per_clip.encode_clip(
        read_frames(video, **standard),
        caption,
        **latents.load(params.model.path, params.model.dtype, params.model.device),
        max_tokens=params.latents.max_tokens,
    )
    precise = replace(work, settings=work.settings | {"storage": "float32"})
    return sketches.sketch_clip(precise, clip["latent"], clip["text"], mask)


def _ranked(sketch: torch.Tensor, params: Params) -> pd.DataFrame:
    how, pool = params.attribution, read_clips("pool")
    ok, stored = attribution.aligned(pool, POOL / "sketches")
    fine = torch.from_numpy(ok)
    measured = measure(stored, fine, how.method, how.damping)
    found = influence(stored, sketch[None], fine, measured)[:, 0].numpy()
    rows = ok.nonzero()[0]
    rows = rows[np.argsort(-found[rows], kind="stable")]
    table = pd.DataFrame({"rank": range(len(rows)), "influence": found[rows]})
    table["clip_id"] = pool["clip_id"].to_numpy()[rows]
    segments = attribution.segment_table(pool, sketch[None], measured, ok, params.clips)
    return attribution.with_best_segment(table, segments).merge(pool, on="clip_id", how="left")


def draw(table: pd.DataFrame, video: Path, caption: str, params: Params, out: Path) -> None:
    """Write two rows: the video and the clips that teach its motion, and those that teach against it.

    Raises:
        ValueError: a clip's file can't be read any more; says which.
    """
    clips = params.clips

    def strip(path: Path, span: dict[str, Any], words: str) -> Strip:
        try:
            return Strip(clip_strip(path, span, clips), words)
        except (BadClip, OSError) as error:
            raise ValueError(f"no picture: {path}: {error}") from None

    def strips(rows: pd.DataFrame) -> list[Strip]:
        return [strip(clip_path(row), clip_span(row), attribution.words_of(row)) for row in rows.itertuples()]

    asked = strip(video, {}, caption)
    best, worst = strips(table.head(PICTURED)), strips(table.iloc[::-1].head(PICTURED))
    heads = ["the video", *(f"{n}" for n in range(1, PICTURED + 1))]
    write_png(out, strip_sheet(heads, [("for", [asked, *best]), ("against", [asked, *worst])]))
