"""The stages of dvc.yaml, each with a `run` that names the sections of params.yaml it is given."""

import inspect
import os
from pathlib import Path
from types import ModuleType

from motive.params import Params
from motive.store.layout import state_folder


def run_stage(stage: ModuleType, params: Params, *split: str) -> None:
    """Run a stage on a split (none where the splits meet), with the sections that its `run` names.

    A section that dvc.yaml does not declare would leave stale results behind: a test compares them.
    """
    wanted = list(inspect.signature(stage.run).parameters)[len(split) :]
    stage.run(*split, **{name: section(params, name) for name in wanted})


def share_work() -> None:
    """In the copy that `dvc exp run --temp` makes, go on with what the project has done so far."""
    project = Path(os.environ.get("DVC_ROOT", "")).absolute()  # DVC names the project, in the copy too
    here = state_folder()
    if Path.cwd().is_relative_to(project / ".dvc/tmp") and not here.exists():
        (project / here).mkdir(exist_ok=True)
        here.symlink_to(project / here)


def section(params: Params, name: str) -> object:
    """A section of params.yaml; or `params`, all; `model.path` alone; `machine`, what changes no result."""
    match name:
        case "params":
            return params
        case "model_path":
            return params.model.path
    return getattr(params, name)
