"""A small project for the tests of stages that run a model: a real WanPipeline of few weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from motive.models import tuned
from motive.params import Params
from motive.stages import latents, run_stage, sketches
from motive.store import shards
from motive.store.shards import read_clip_tensors
from testing.tiny import (
    SHAPE,
    small_params,
    write_masks,
    write_pipeline,
    write_split,
)

POOL = Path("data/pool")
QUERIES = Path("data/queries")
OUT = Path("data/finetuning")
DIM = 64
CPU = ("model", "float32", "cpu")


def params_of(**sections: dict) -> Params:
    short = {"learning_rate": 1e-2, "steps": 8, "batch_size": 2, "checkpointing_steps": 3}
    sections["finetuning"] = short | sections.get("finetuning", {})
    precise = {"dim": DIM, "sigmas": (0.3, 0.751), "projection": "fastfood", "storage": "float32"}
    sections["sketches"] = precise | sections.get("sketches", {})
    return small_params(**sections)


def forget_models() -> None:
    for cached in (latents.load, sketches.load, tuned.frozen_transformer, tuned.sampler):
        cached.cache_clear()


def tensors_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    where = shards.locate(folder)
    return dict(read_clip_tensors(where, list(where)))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five pool clips with latents and masks: the second moves everywhere, the last nowhere."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_pipeline(folder / "model")
        ids = write_split("pool", ["rolls", "spins", "falls", "rests", "rolls spins"])
        rng = torch.Generator().manual_seed(0)
        masks = {one: torch.rand(SHAPE[1:], generator=rng) for one in ids}
        masks[ids[1]] = torch.ones(SHAPE[1:])
        masks[ids[-1]] = torch.zeros(SHAPE[1:])
        write_masks("pool", masks)
        run_stage(latents, params_of(), "pool")
        forget_models()
        yield folder
    forget_models()


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    forget_models()
    return tmp_path / "project"
