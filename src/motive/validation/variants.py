"""Masks and sketches made in other ways than params.yaml says, of the same clips, beside the pipeline's own.

A variant of a split is a split of its own, `validation/VARIANT/SPLIT`: what comes before the masks is linked,
and the ordinary stages do the rest.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from motive.clips.table import read_clips, write_clips
from motive.params import Params
from motive.stages import masks, run_stage, sketches
from motive.store.layout import split_folder

BEFORE = ("clips", "optical_flow", "latents")  # stages that no variant changes
SPLITS = ("pool", "queries", "corrupted")
ONE = (0.751,)  # the paper's noise level
FOUR = (0.25, 0.5, 0.751, 0.9)  # those that evaluation measures at
NO_MASK = {"enabled": False, "camera": "keep", "floor": 0.0, "percentile": 100.0, "confidence": False}
PAPER = NO_MASK | {"enabled": True}
OURS = {"enabled": True, "camera": "remove", "floor": 3.0, "percentile": 99.0, "confidence": True}
SKETCH = {"parameters": "all", "projection": "fastfood", "dim": 512, "storage": "float32", "segments": 1}


class Variant(NamedTuple):
    """Other keys of the sections `masks` and `sketches`; none: params.yaml as it is."""

    masks: dict[str, Any]
    sketches: dict[str, Any]


VARIANTS = {
    "no_mask": Variant(NO_MASK, SKETCH | {"sigmas": ONE}),
    "paper": Variant(PAPER, SKETCH | {"sigmas": ONE}),
    "our_sketch": Variant(PAPER, {"sigmas": ONE}),
    "our_mask": Variant(OURS, {"sigmas": ONE}),
    "four_sigmas": Variant(OURS, {"sigmas": FOUR}),
    "default": Variant({}, {}),
}


def choose(split: str, clip_ids: list[str], root: str) -> None:
    """Make a split, `ROOT/SPLIT`, of some clips of another."""
    _link(split_folder(split), split_folder(f"{root}/{split}"), BEFORE[1:])
    clips: Any = read_clips(split)
    write_clips(f"{root}/{split}", clips[clips["clip_id"].isin(clip_ids)])


def make_variants(root: str, params: Params) -> None:
    """Masks and sketches of every variant of `ROOT/SPLIT`."""
    for name, variant in VARIANTS.items():
        update = {
            "masks": params.masks.model_copy(update=variant.masks),
            "sketches": params.sketches.model_copy(update=variant.sketches),
        }
        for split in SPLITS:
            _link(split_folder(f"{root}/{split}"), folder_of(root, name, split), BEFORE)
            run_stage(masks, params.model_copy(update=update), f"{root}/{name}/{split}")
            run_stage(sketches, params.model_copy(update=update), f"{root}/{name}/{split}")


def folder_of(root: str, variant: str, split: str) -> Path:
    """Where a variant's masks and sketches of a split lie."""
    return split_folder(f"{root}/{variant}/{split}")


def _link(source: Path, folder: Path, stages: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        link = folder / stage
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(source / stage, folder), target_is_directory=True)
