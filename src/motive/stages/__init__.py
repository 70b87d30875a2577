"""The stages of dvc.yaml, each with a `run` that names the sections of params.yaml it is given."""

import inspect
from types import ModuleType

from motive.params import Params


def run_stage(stage: ModuleType, params: Params, *split: str) -> None:
    """Run a stage on a split (none where the splits meet), with the sections that its `run` names.

    A section that dvc.yaml does not declare would leave stale results behind: a test compares them.
    """
    wanted = [name for name in inspect.signature(stage.run).parameters if name != "split"]
    if "params" in wanted:  # goes when the last stage names its sections
        stage.run(*split, params)
        return
    stage.run(*split, **{name: section(params, name) for name in wanted})


def section(params: Params, name: str) -> object:
    """A section of params.yaml; `model_path` is `model.path` alone, `machine` what changes no result."""
    if name == "machine":
        return params.machine
    if name == "model_path":
        return params.model.path
    return getattr(params, name)
