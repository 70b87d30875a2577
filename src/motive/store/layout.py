"""Where things lie in a project, from its root: the folder of params.yaml and dvc.yaml."""

from pathlib import Path

ROOT = Path()


def data_folder(root: Path = ROOT) -> Path:
    """What the stages publish; DVC knows it."""
    return root / "data"


def split_folder(split: str, root: Path = ROOT) -> Path:
    """data/SPLIT: all that was made of the clips of a split (pool, queries, heldout)."""
    return data_folder(root) / split


def stage_folder(stage: str, split: str = "", root: Path = ROOT) -> Path:
    """data/SPLIT/STAGE of a per-clip stage; data/STAGE where the splits have met."""
    return (split_folder(split, root) if split else data_folder(root)) / stage


def state_folder(root: Path = ROOT) -> Path:
    """.motive: what is not a result; neither Git nor DVC knows it."""
    return root / ".motive"


def work_folder(stage: str = "", root: Path = ROOT) -> Path:
    """.motive/work/STAGE: what a stage has done so far, for the next run to go on."""
    return state_folder(root) / "work" / stage
