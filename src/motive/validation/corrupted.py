"""Copies of pool clips whose motion is spoilt, as real video files that go through the ordinary stages.

The original is copied too, through the same encoder: only the motion differs.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from tqdm import tqdm

from motive.clips.table import FRAME_KEYS, clip_path, clip_span, read_clips
from motive.maths.seeds import seed_of
from motive.params import Params
from motive.stages import clips, latents, optical_flow, run_stage
from motive.store.layout import stage_folder
from motive.video.reading import read_frames
from motive.video.writing import write_video

Frames = UInt8[np.ndarray, "F H W 3"]
NEAR = 2.5  # frames by which jitter moves a frame in time, at most
BLOCK = 3  # frames that stay together between two jumps


def original(frames: Frames, rng: np.random.Generator) -> Frames:
    """As it was."""
    return frames


def reversed_(frames: Frames, rng: np.random.Generator) -> Frames:
    """Played backward."""
    return frames[::-1]


def frozen(frames: Frames, rng: np.random.Generator) -> Frames:
    """The middle frame, held."""
    return np.repeat(frames[len(frames) // 2 :][:1], len(frames), axis=0)


def jittered(frames: Frames, rng: np.random.Generator) -> Frames:
    """Each frame shown somewhat too early or too late: the motion trembles back and forth."""
    order = moments = np.arange(len(frames))
    while (order == moments).all():
        order = np.argsort(moments + rng.uniform(-NEAR, NEAR, len(frames)))
    return frames[order]


def teleported(frames: Frames, rng: np.random.Generator) -> Frames:
    """Short blocks in another order, none after the one it followed: what moves jumps."""
    blocks = np.split(np.arange(len(frames)), range(BLOCK, len(frames), BLOCK))
    order = np.arange(len(blocks))
    while len(order) > 1 and (np.diff(order) == 1).any():
        order = rng.permutation(len(blocks))
    return frames[np.concatenate([blocks[block] for block in order])]


CORRUPTIONS: dict[str, Callable[[Frames, np.random.Generator], Frames]] = {
    "original": original,
    "reversed": reversed_,
    "frozen": frozen,
    "jittered": jittered,
    "teleported": teleported,
}


def make_corrupted(originals: pd.DataFrame, split: str, params: Params) -> None:
    """Write every copy of these pool clips, and what the stages before the masks make of them, as a split."""
    folder = stage_folder("videos", split)
    shutil.rmtree(folder, ignore_errors=True)  # copies of other clips; the stages know these by their content
    metadata = []
    for row in tqdm(list(originals.itertuples()), desc="corrupted copies", unit="clip"):
        metadata += write_copies(row, folder, params)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metadata))

    # A frozen clip that looks like another is still a copy of its own; a clip lives from its first frame on.
    source = {"source": {**params.clips.source, split: str(folder)}, "duplicates": "keep", "cut": "whole"}
    params = params.model_copy(update={"clips": params.clips.model_copy(update=source)})
    run_stage(clips, params, split)
    run_stage(optical_flow, params, split)
    run_stage(latents, params, split)


def write_copies(row: Any, folder: Path, params: Params) -> list[dict[str, str]]:
    """Write a clip in every way as CORRUPTION/CLIP_ID.mp4; returns the lines of metadata.jsonl."""
    frames = read_frames(clip_path(row), **params.clips.model_dump(include=FRAME_KEYS), **clip_span(row))
    for name, corrupt in CORRUPTIONS.items():
        rng = np.random.default_rng(seed_of(name, row.clip_id))
        write_video(folder / name / f"{row.clip_id}.mp4", corrupt(frames, rng), params.clips.fps)
    return [{"file_name": f"{name}/{row.clip_id}.mp4", "caption": row.caption} for name in CORRUPTIONS]


def table_of_copies(split: str) -> pd.DataFrame:
    """Place of each copy in the split's clip table, by its original's id and corruption; complete ones.

    Raises:
        ValueError: none is complete.
    """
    table = read_clips(split)
    places = pd.DataFrame(
        {
            "original": [Path(video).stem for video in table["video"]],
            "corruption": [Path(video).parent.name for video in table["video"]],
            "row": range(len(table)),
        }
    )
    whole: Any = places.pivot(index="original", columns="corruption", values="row").dropna().astype(int)
    if whole.empty:
        raise ValueError(f"data/{split}/clips: no clip has all of its copies; see failures.parquet there")
    return whole[list(CORRUPTIONS)]
