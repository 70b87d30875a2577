"""The video behind each clip, as the stages that read videos hand it to their workers."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from motive.clips.table import clip_path, clip_span


class ClipVideo(NamedTuple):
    """A clip's file, which seconds of it (as `stream_frames` takes them), and its caption."""

    clip_id: str
    path: Path
    span: dict[str, Any]
    caption: str


def clip_videos(table: pd.DataFrame) -> dict[str, ClipVideo]:
    """clip_id -> its video, for each row of a clip table."""
    rows: list[Any] = list(table.itertuples())
    return {row.clip_id: ClipVideo(row.clip_id, clip_path(row), clip_span(row), row.caption) for row in rows}


def check_there(clip: ClipVideo) -> None:
    """A file that is gone is not a bad one: remembered as a failure it would never be tried again.

    Raises:
        ValueError: it is gone.
    """
    if not clip.path.is_file():
        raise ValueError(
            f"clip {clip.clip_id}: {clip.path} is missing; bring it back, or run the clips stage again"
        )
