"""`motive show`: all that is known of one clip's motion, as a table and a picture."""

from pathlib import Path
from typing import Any

import pandas as pd

from motive.clips.table import clips_folder, read_clips
from motive.images.motion import motion_sheet, write_png
from motive.images.panels import describe, read_panels
from motive.params import Params
from motive.store.files import read_table
from motive.store.shards import locate, read_clip_tensors, read_manifest


def show(wanted: str, params: Params, out: Path | None) -> tuple[dict[str, Any], Path]:
    """The facts of the clip whose id begins so, or whose file is called so, and its picture.

    Raises:
        ValueError: no such clip or several, or its masks are not made.
    """
    part, clip = _find(wanted, list(params.clips.source))
    clip_id, folder = str(clip["clip_id"].iloc[0]), Path("data") / part
    how = read_manifest(folder / "masks")["params"]
    stats = read_table(folder / "masks/mask_stats.parquet")
    facts = clip.merge(stats, on="clip_id", suffixes=("", "_px_per_second"))
    if facts.empty:
        raise ValueError(f"{clip_id} has no mask: see {folder / 'masks/failures.parquet'}")
    stored = read_clip_tensors(locate(folder / "masks"), [clip_id])
    masks = {name: tensors["mask"] for name, tensors in stored}
    panels = read_panels(clip, describe(stats), masks, folder / "optical_flow", how["clips"])
    out = out or Path(".motive/show") / f"{clip_id}.png"
    write_png(out, motion_sheet(list(panels), how["clips"]["fps"], how["strides"][0]))
    return {"part": part, **facts.to_dict("records")[0]}, out


def _find(wanted: str, parts: list[str]) -> tuple[str, pd.DataFrame]:
    """The part and the one row of a clip."""
    parts = [part for part in parts if (clips_folder(part) / "clips.parquet").is_file()]
    found = []
    for part in parts:
        table = read_clips(part)
        names = zip(table["clip_id"], table["video"], strict=True)
        meant = [i.startswith(wanted) or wanted in (video, Path(video).name) for i, video in names]
        found.append(table[meant].assign(part=part))
    clips = pd.concat(found) if found else pd.DataFrame()
    if clips.empty:
        raise ValueError(
            f"no clip {wanted!r} in {', '.join(parts) or 'data/'}: give a clip_id or a file name"
        )
    if len(clips) > 1:
        rows: list[Any] = list(clips.head().itertuples())
        some = ", ".join(f"{row.clip_id} ({row.part}/{row.video})" for row in rows)
        raise ValueError(f"{len(clips)} clips are called {wanted!r}, e.g. {some}: give a clip_id")
    return str(clips["part"].iloc[0]), clips.drop(columns="part")
