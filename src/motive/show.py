"""`motive show`: all that is known of one clip's motion, as a table and an image."""

from pathlib import Path
from typing import Any

import pandas as pd

from motive.clips.table import read_clips
from motive.images.motion import motion_sheet
from motive.images.panels import describe, read_panels
from motive.images.png import write_png
from motive.params import Params
from motive.store.files import read_table
from motive.store.layout import stage_folder, state_folder
from motive.store.shards import locate, read_clip_tensors, read_manifest


def show(name: str, params: Params, out: Path | None) -> tuple[dict[str, Any], Path]:
    """The facts of the clip whose id begins so, or whose file is called so, and its image.

    Raises:
        ValueError: no such clip or several, or its masks are not made.
    """
    split, clip = _find(name, list(params.clips.source))
    clip_id = str(clip["clip_id"].iloc[0])
    masks = stage_folder("masks", split)
    stats = read_table(masks / "mask_stats.parquet")
    facts = clip.merge(stats, on="clip_id", suffixes=("", "_px_per_second"))
    if facts.empty:
        raise ValueError(f"{clip_id} has no mask: see {masks / 'failures.parquet'}")

    # Drawn as its mask was made, whatever params.yaml says by now.
    settings = read_manifest(masks)["params"]
    [(_, tensors)] = read_clip_tensors(locate(masks), [clip_id])
    panels = read_panels(
        clip,
        describe(stats),
        {clip_id: tensors["mask"]},
        stage_folder("optical_flow", split),
        settings["clips"],
    )
    out = out or state_folder() / "show" / f"{clip_id}.png"
    write_png(out, motion_sheet(list(panels), settings["clips"]["fps"], settings["strides"][0]))
    return {"split": split, **facts.to_dict("records")[0]}, out


def _find(name: str, splits: list[str]) -> tuple[str, pd.DataFrame]:
    """The split and the one row of a clip."""
    splits = [split for split in splits if (stage_folder("clips", split) / "clips.parquet").is_file()]
    rows = pd.concat([_named(name, split) for split in splits]) if splits else pd.DataFrame()
    if rows.empty:
        raise ValueError(f"no clip {name!r} in {', '.join(splits) or 'data/'}: give a clip_id or a file name")
    if len(rows) > 1:
        first: list[Any] = list(rows.head().itertuples())
        some = ", ".join(f"{row.clip_id} ({row.split}/{row.video})" for row in first)
        raise ValueError(f"{len(rows)} clips are called {name!r}, e.g. {some}: give a clip_id")
    return str(rows["split"].iloc[0]), rows.drop(columns="split")


def _named(name: str, split: str) -> pd.DataFrame:
    """The clips of a split that are meant, with a column `split`."""
    table = read_clips(split)
    rows: list[Any] = list(table.itertuples())
    meant = [row.clip_id.startswith(name) or name in (row.video, Path(row.video).name) for row in rows]
    return table[meant].assign(split=split)
