"""Clips with their optical flow and mask, read for a picture."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from motive.formats.clips import clip_path, clip_span
from motive.formats.pictures import Panel
from motive.formats.shards import locate, read_clip_tensors
from motive.formats.video import read_frames


def read_panels(
    facts: pd.DataFrame,
    masks: Mapping[str, torch.Tensor],
    optical_flow: Path,
    how: dict[str, Any],
) -> Iterator[Panel]:
    """A panel for each row of `facts`, which are clips and their mask_stats; `how` the frames are read.

    The clip table's `motion` is a word, mask_stats' a speed: after a merge `motion_x` and `motion_y`.
    """
    rows: list[Any] = list(facts.itertuples())
    flows = dict(read_clip_tensors(locate(optical_flow), [row.clip_id for row in rows]))
    for row in rows:
        flow, residual = (flows[row.clip_id][name].float().numpy() for name in ("flow", "residual"))
        frames = read_frames(clip_path(row), **how, **clip_span(row))
        yield Panel(row.caption, _words(row), frames, flow, residual, masks[row.clip_id].float().numpy())


def _words(row: Any) -> str:
    speeds = f"{row.motion_y:.1f} px/s, {row.own_motion:.1f} without the camera"
    return f"{row.clip_id}   camera {row.camera}, {row.motion_kind}; {speeds}, coverage {row.coverage:.2f}"
