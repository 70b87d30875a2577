"""Clips with their optical flow and mask, read for an image."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from motive.clips.table import clip_path, clip_span
from motive.images.motion import Panel
from motive.store.shards import locate, read_clip_tensors
from motive.video.reading import read_frames


def read_panels(
    clips: pd.DataFrame,
    words: Mapping[str, str],
    masks: Mapping[str, torch.Tensor],
    optical_flow: Path,
    reading: dict[str, Any],
) -> Iterator[Panel]:
    """A panel for each clip, with the words and mask (if any) of its id; `reading`: how frames are read."""
    rows: list[Any] = list(clips.itertuples())
    flows = dict(read_clip_tensors(locate(optical_flow), [row.clip_id for row in rows]))
    for row in rows:
        mask = masks.get(row.clip_id)
        yield Panel(
            title=row.caption or row.video,
            subtitle=words[row.clip_id],
            frames=read_frames(clip_path(row), **reading, **clip_span(row)),
            flow=flows[row.clip_id]["flow"].float().numpy(),
            residual=flows[row.clip_id]["residual"].float().numpy(),
            mask=None if mask is None else mask.float().numpy(),
        )


def describe(stats: pd.DataFrame) -> dict[str, str]:
    """clip_id -> what mask_stats says of it."""
    return {row.clip_id: _words(row) for row in list[Any](stats.itertuples())}


def _words(row: Any) -> str:
    speeds = f"{row.motion:.1f} px/s, {row.own_motion:.1f} without the camera"
    return f"{row.clip_id}   camera {row.camera}, {row.motion_kind}; {speeds}, coverage {row.coverage:.2f}"
