"""A small project whose pool has been ranked and a subset chosen from it: a rendered world, a tiny model."""

from importlib import import_module
from pathlib import Path

import pytest

from motive.params import load_params
from motive.stages import run_stage
from testing.model_project import forget_models
from testing.whole_project import write_project

SPLIT_STAGES = ("clips", "optical_flow", "masks", "latents", "sketches")


def write_ranked_project(folder: Path, num_pool: int) -> None:
    """Make it in an empty folder, up to the subset, by the stages themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_project(folder, num_pool=num_pool, num_heldout=2)
        params = load_params()
        for split in ("pool", "queries"):
            for stage in SPLIT_STAGES:
                run_stage(import_module(f"motive.stages.{stage}"), params, split)
        for stage in ("attribution", "curation"):
            run_stage(import_module(f"motive.stages.{stage}"), params)
    forget_models()
