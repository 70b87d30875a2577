"""All that decides a result, and whose the results in a folder of the work store are."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from motive.store.files import write_text
from motive.store.hashes import values_digest
from motive.store.layout import work_folder


@dataclass(frozen=True)
class Recipe:
    """All that decides a stage's output for one clip. Raise `version` when the meaning of it changes."""

    stage: str
    version: int
    params: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)  # name -> digest of what it was made from

    @property
    def digest(self) -> str:
        return values_digest(asdict(self))

    def to_json(self) -> str:
        """The recipe and its digest, for people and for the next stage."""
        return json.dumps({**asdict(self), "digest": self.digest}, indent=1, sort_keys=True)

    @property
    def store(self) -> Path:
        return work_folder(self.stage) / self.digest

    def claim(self) -> None:
        """Say in the store whose it is."""
        path = self.store / "recipe.json"
        if not path.is_file():
            write_text(path, self.to_json())

    def refuse_another(self) -> None:
        """Let no results of two recipes mix.

        Raises:
            ValueError: the store is another recipe's; says what differs.
        """
        path = self.store / "recipe.json"
        if not path.is_file():
            return
        differ = differences(json.loads(path.read_text()), json.loads(self.to_json()))
        if differ:
            lines = "".join(f"\n  {line}" for line in differ)
            raise ValueError(
                f"{self.store} holds another recipe's results; delete it. There, and wanted:{lines}"
            )


def deciding(manifest: dict) -> dict:
    """Of a manifest or a recipe's JSON, what decides its tensors."""
    return {key: manifest[key] for key in ("version", "params", "inputs")}


def differences(one: dict, other: dict, prefix: str = "") -> list[str]:
    """What differs between two recipes or manifests, a line each: `params.dim: 512, 1024`."""
    lines = []
    for key in sorted(one | other):
        here = one.get(key)
        there = other.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            lines += differences(here, there, f"{prefix}{key}.")
        elif here != there:
            lines.append(f"{prefix}{key}: {here}, {there}")
    return lines
