"""A small copy of the project as a user has it: rendered world, tiny model, few steps, a git commit."""

import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from testing.tiny import ROOT, small_params, write_pipeline
from toyworld.render import write_world

SPLITS = ("pool", "queries", "heldout")
DIM = 512
SMALL = {
    "clips": {"source": {split: f"data/world/{split}" for split in SPLITS}},
    "sketches": {"dim": DIM, "sigmas": [0.751]},
    "finetuning": {"steps": 4, "batch_size": 2, "checkpointing_steps": 2, "learning_rate": 1e-3},
    "evaluation": {"sigmas": [0.5], "prompts": "data/prompts.txt"},
}


def write_project(folder: Path, num_pool: int, num_heldout: int) -> None:
    """Make it in an empty folder, which must be the working directory."""
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    write_world(
        folder / "data/world",
        num_pool=num_pool,
        num_queries_per_motion=1,
        num_heldout=num_heldout,
        size=(32, 32),
    )
    (folder / "data/prompts.txt").write_text("a red ball rolls\na blue box falls\n")
    write_pipeline(folder / "model")
    write_params()
    commit(folder)


def commit(folder: Path) -> None:
    """Put all that git does not ignore into one commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=a user", "-c", "user.email=user@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a clone"]):
        subprocess.run([*git, *command], check=True)


def write_params(**sections: dict) -> None:
    """params.yaml as it ships, made small, with keys of some sections changed."""
    changed = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in {*SMALL, *sections}}
    unknown = {
        name: changed.pop(name) for name in list(changed) if name not in type(small_params()).model_fields
    }
    values = small_params().model_dump(mode="json")
    for name, section in (changed | unknown).items():
        values[name] = values.get(name, {}) | section
    values["shards"]["size"] = 4
    write_yaml(Path("params.yaml"), values)


def write_clips_params(folder: Path, source: dict[str, str], **clips: object) -> None:
    """params.yaml as it ships, with other folders for these splits and other keys of `clips`; no captions."""
    values = YAML(typ="safe").load(ROOT / "params.yaml")
    values["clips"]["source"] |= source
    values["clips"] |= {"missing_caption": "empty", **clips}
    write_yaml(folder / "params.yaml", values)


def write_yaml(path: Path, values: dict) -> None:
    """One key a line: DVC's `--set-param` can't read back an address within braces."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.dump(values, path)


def metadata() -> list[str]:
    return Path("data/world/pool/metadata.jsonl").read_text().splitlines()


def write_metadata(lines: list[str]) -> None:
    Path("data/world/pool/metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))
