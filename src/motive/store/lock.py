"""dvc.lock: what went into each stage and what came out, so which data version this is."""

import json
from pathlib import Path
from typing import Any

from motive.store.hashes import text_digest

LOCK = Path("dvc.lock")
Lock = dict[str, dict[str, Any]]  # stage as DVC calls it, e.g. masks@pool -> what went in and came out


def read_lock() -> Lock:
    """The stages that DVC has run.

    Raises:
        ValueError: there is no dvc.lock.
    """
    from ruamel.yaml import YAML

    if not LOCK.is_file():
        raise ValueError(
            f"{LOCK} is missing: DVC writes it; run `dvc repro` instead of `motive record` alone"
        )
    return YAML(typ="safe", pure=True).load(LOCK.read_text())["stages"]


def lineage(lock: Lock, ends: list[str]) -> Lock:
    """The stages that led to these paths; others are left over from an older dvc.yaml."""
    wanted = list(ends)
    kept: Lock = {}
    while wanted:
        path = wanted.pop()
        for name, stage in lock.items():
            if name not in kept and any(_touches(out["path"], path) for out in stage.get("outs", [])):
                kept[name] = stage
                wanted += [dep["path"] for dep in stage.get("deps", [])]
    return {name: kept[name] for name in sorted(kept)}


def _touches(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def digest(values: Any) -> str:
    """32 hex digits of a lock, or of anything like it."""
    # YAML has dates, which JSON has not: as text they are the same on every machine.
    return text_digest(json.dumps(values, sort_keys=True, default=str), 32)


def out_digest(lock: Lock, path: str) -> str:
    """DVC's hash of an output; empty if no stage has made it."""
    outs = (out for stage in lock.values() for out in stage.get("outs", []))
    return next((out["md5"] for out in outs if out["path"] == path), "")
