"""A pool and queries with sketches made by hand: clips of one motion point the same way."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from motive.store.files import read_table
from motive.store.recipes import Recipe
from testing.tiny import write_split, write_stage

MOTIONS = ["roll", "spin", "fall"]
SAME = {"dim": 8, "segments": 1}
RECIPE = Recipe("sketches", 1, SAME, {"latents": "abc"})
RANKING = Path("data/attribution/ranking.parquet")


def sketch_of(motion: str, seed: int) -> torch.Tensor:
    """Clips of one motion point the same way, nearly."""
    near = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    return normalize(4 * torch.eye(8)[MOTIONS.index(motion)] + 0.2 * near, dim=0)[None]


def stored(motion: str, seed: int) -> dict[str, torch.Tensor]:
    one = torch.ones(1)
    return {"sketch": sketch_of(motion, seed), "loss": one, "norm": one, "ok": torch.tensor(True)}


def write_sketches(split: str, motions: list[str], recipe: Recipe = RECIPE) -> dict[str, str]:
    """A split with its sketches; returns clip_id -> motion."""
    write_split(split, motions)
    table = read_table(Path("data") / split / "clips/clips.parquet")
    of = dict(zip(table["clip_id"], table["motion"], strict=True))
    clips = {one: stored(motion, n) for n, (one, motion) in enumerate(of.items())}
    write_stage(split, recipe, clips)
    return of


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A project of 9 pool clips and 4 queries, two of which roll; returns pool clip_id -> motion."""
    monkeypatch.chdir(tmp_path)
    of = write_sketches("pool", MOTIONS * 3)
    write_sketches("queries", ["roll", "roll", "spin", "fall"])
    return of


def ranking() -> pd.DataFrame:
    return read_table(RANKING)
