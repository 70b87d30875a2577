"""What is done, and where: per-clip tensors in a store keyed by recipe, published as shards of row ranges.

A clip that was ever computed under the same recipe is never computed again, and the published bytes depend
only on the clips and the recipe: not on interruptions, on the number of workers, or on what was done before.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from motive.store.files import alone, aside, write_table, write_text
from motive.store.recipes import Recipe

log = logging.getLogger("motive")
Tensors = dict[str, torch.Tensor]
BLOCK = 1 << 16  # bytes to read at once: a million sketches one by one take half a minute


# ---- one shard file


def write_shard(path: Path, clips: dict[str, Tensors]) -> None:
    """Write clip_id -> tensors as one file, aside and renamed, same bytes for the same content."""
    tensors: Tensors = {}
    for name in sorted({name for clip in clips.values() for name in clip}):
        column = {clip_id: clip[name].contiguous() for clip_id, clip in clips.items()}
        if len({(t.shape, t.dtype) for t in column.values()}) == 1:
            tensors[name] = torch.stack(list(column.values()))
        else:
            tensors |= {f"{name}/{clip_id}": tensor for clip_id, tensor in column.items()}
    metadata = {"motive": json.dumps({"clip_ids": list(clips)})}
    with aside(path) as place, place.open("wb") as file:
        file.write(save(tensors, metadata))  # save_file would let nobody but the owner read it
        file.flush()
        os.fsync(file.fileno())  # or a power cut leaves the name without the bytes


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """A shard and its clip ids; its length is checked against its header.

    Raises:
        ValueError: it is missing, cut off, too long, or none of ours.
    """
    try:
        shard = safe_open(path, "pt")
        clip_ids = json.loads(shard.metadata()["motive"])["clip_ids"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}): run its stage again") from None
    with shard:
        yield shard, clip_ids


def _at_once(path: Path, clip_ids: list[str]) -> int:
    return max(1, BLOCK * len(clip_ids) // path.stat().st_size)


def read_ids(path: Path) -> list[str]:
    """The clip ids of one shard, in row order.

    Raises:
        ValueError: the shard is missing or damaged.
    """
    with _opened(path) as (_, clip_ids):
        return clip_ids


def read_shard(path: Path, only: set[str] | None = None) -> Iterator[tuple[str, Tensors]]:
    """Yield (clip_id, tensors) of one shard in row order, reading one clip, or a few small ones, at a time.

    Raises:
        ValueError: the shard is missing or damaged.
    """
    with _opened(path) as (shard, clip_ids):
        keys = list(shard.keys())
        stacked = [key for key in keys if "/" not in key]
        ragged = sorted({key.split("/")[0] for key in keys if "/" in key})
        step = _at_once(path, clip_ids)
        for start in range(0, len(clip_ids), step):
            ids = clip_ids[start : start + step]
            if only is not None and only.isdisjoint(ids):
                continue
            block = {name: shard.get_slice(name)[start : start + step] for name in stacked}
            for row, clip_id in enumerate(ids):
                if only is None or clip_id in only:
                    tensors = {name: rows[row] for name, rows in block.items()}
                    yield clip_id, tensors | {name: shard.get_tensor(f"{name}/{clip_id}") for name in ragged}


def locate(folder: Path) -> dict[str, Path]:
    """clip_id -> its shard, for all clips of a published folder, in row order."""
    return {clip_id: path for path in shard_paths(folder) for clip_id in read_ids(path)}


def read_clip_tensors(where: dict[str, Path], clip_ids: list[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield (clip_id, tensors) of these clips, in the order given within each shard; see `locate`."""
    wanted: dict[Path, set[str]] = defaultdict(set)
    for clip_id in clip_ids:
        wanted[where[clip_id]].add(clip_id)
    for path, ids in wanted.items():
        yield from read_shard(path, ids)


def read_stacked(folder: Path, name: str) -> tuple[list[str], torch.Tensor]:
    """All rows of one tensor of a published folder: ids [n], tensor [n, ...]; empty folder: ([], empty)."""
    clip_ids: list[str] = []
    tensor = torch.empty(0)
    for path in shard_paths(folder):
        ids, rows = read_ids(path), read_column(path, name)
        if not clip_ids:  # one allocation: joined at the end, a million sketches would be there twice
            tensor = rows.new_empty(read_manifest(folder)["num_clips"], *rows.shape[1:])
        tensor[len(clip_ids) : len(clip_ids) + len(ids)] = rows
        clip_ids += ids
    return clip_ids, tensor


def read_aligned(folder: Path, clip_ids: list[str], *names: str) -> list[torch.Tensor]:
    """These tensors of a published folder, [n, ...] for n clips; zeros for a clip that is not there."""
    tensors, end = [torch.zeros(len(clip_ids)) for _ in names], 0
    row_of: dict[str, int] = {}
    for nth, path in enumerate(shard_paths(folder)):
        ids = read_ids(path)
        known, to = slice(None), slice(end, end + len(ids))
        end += len(ids)
        if clip_ids[to] != ids:  # some failed, or others are asked for: rows are looked up, and placed singly
            row_of = row_of or {clip_id: row for row, clip_id in enumerate(clip_ids)}
            found = torch.tensor([row_of.get(clip_id, -1) for clip_id in ids])
            known = found >= 0
            to = found[known]
            end = row_of.get(ids[-1], -1) + 1  # where the next shard may stand in one piece
        for n, name in enumerate(names):
            rows = read_column(path, name)
            if nth == 0:
                tensors[n] = rows.new_zeros(len(clip_ids), *rows.shape[1:])
            tensors[n][to] = rows[known]
    return tensors


def read_column(path: Path, name: str) -> torch.Tensor:
    """All rows of one tensor of one shard, if its clips have it in one shape."""
    with _opened(path) as (shard, _):
        return shard.get_tensor(name)


def summarise(folder: Path, name: str, read: Callable[[Any], Any] = torch.Tensor.float) -> pd.DataFrame:
    """One row a clip, for checks: `clip_id`, `finite`, `min`, `max`, `norm` of a tensor; `ok` if there.

    `read` makes floats of what is stored. An empty tensor is not finite.
    """
    ids: list[str] = []
    found, ok = [torch.empty(0, 3)], []
    for path in shard_paths(folder):
        with _opened(path) as (shard, clip_ids):
            ids += clip_ids
            found += [_measures(read(rows)) for rows in _rows(path, shard, clip_ids, name)]
            # A copy: what `get_tensor` gives keeps the whole shard mapped.
            ok += [shard.get_tensor("ok").clone()] if "ok" in shard.keys() else []  # noqa: SIM118
    table = pd.DataFrame(torch.cat(found).double().numpy(), columns=["min", "max", "norm"])
    finite = np.isfinite(table["min"]) & np.isfinite(table["max"])  # both pass NaN on
    table.insert(0, "clip_id", pd.Series(ids, dtype="str"))  # of a kind to join with, even if empty
    table.insert(1, "finite", finite)
    return table.assign(ok=torch.cat(ok).bool().numpy()) if ok else table


def _rows(path: Path, shard: Any, clip_ids: list[str], name: str) -> Iterator[torch.Tensor]:
    """A tensor of all clips of a shard, a few of them at a time; one by one where shapes differ."""
    if f"{name}/{clip_ids[0]}" in shard.keys():  # noqa: SIM118
        yield from (shard.get_tensor(f"{name}/{clip_id}")[None] for clip_id in clip_ids)
    else:
        step = _at_once(path, clip_ids)
        yield from (shard.get_slice(name)[at : at + step] for at in range(0, len(clip_ids), step))


def _measures(rows: torch.Tensor) -> torch.Tensor:
    """[n,...] -> [n,3]: the smallest number, the largest, the norm; NaN of nothing."""
    values = rows.flatten(1)
    if not values.shape[1]:
        return values.new_full((len(values), 3), torch.nan)
    return torch.stack([*values.aminmax(dim=1), values.norm(dim=1)], 1)


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a published folder in row order, after its manifest."""
    return [folder / name for name in read_manifest(folder)["shards"]]


def read_manifest(folder: Path) -> dict:
    """The manifest of a published folder.

    Raises:
        ValueError: the folder has none: the stage has not finished.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no manifest.json: its stage has not finished; run `dvc repro`")
    return json.loads(path.read_text())


# ---- the work store


def done(recipe: Recipe) -> dict[str, Path]:
    """clip_id -> the part of the work store that holds it. A damaged part does not count: it is made again.

    Raises:
        ValueError: the store is another recipe's; says what differs.
    """
    recipe.refuse_another()
    where: dict[str, Path] = {}
    for path in sorted(recipe.store.glob("*.safetensors")):
        try:
            where |= dict.fromkeys(read_ids(path), path)
        except ValueError as damage:  # not deleted: another run may have made it anew by now
            log.warning("%s: %s", recipe.stage, damage)
    return where


def failed(recipe: Recipe) -> dict[str, str]:
    """clip_id -> reason, for clips that were tried under this recipe and can't be done."""
    reasons: dict[str, str] = {}
    for path in sorted(recipe.store.glob("*.failures.json")):
        reasons |= json.loads(path.read_text())
    return reasons


def pending(recipe: Recipe, clip_ids: list[str], shard_size: int) -> list[list[str]]:
    """What is still to do, in chunks that never cross a row range: a fresh run's parts are its shards."""
    known = done(recipe).keys() | failed(recipe).keys()
    ranges = (clip_ids[start : start + shard_size] for start in range(0, len(clip_ids), shard_size))
    chunks = ([clip_id for clip_id in ids if clip_id not in known] for ids in ranges)
    return [chunk for chunk in chunks if chunk]


def read_done(recipe: Recipe, clip_ids: list[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield (clip_id, tensors) of those of these clips that are done, part by part."""
    where, wanted = done(recipe), set(clip_ids)
    for path in sorted({where[clip_id] for clip_id in clip_ids if clip_id in where}):
        yield from read_shard(path, wanted)


def write_part(recipe: Recipe, clips: dict[str, Tensors], failures: dict[str, str]) -> None:
    """Keep one finished chunk: its tensors, and the reason of each clip that failed."""
    chunk = hashlib.sha256("".join([*clips, *failures]).encode()).hexdigest()[:16]
    recipe.claim()
    if failures:
        text = json.dumps(failures, indent=1, sort_keys=True)
        write_text(recipe.store / f"{chunk}.failures.json", text)
    if clips:
        write_shard(recipe.store / f"{chunk}.safetensors", clips)


def publish(recipe: Recipe, clip_ids: list[str], shard_size: int, out: Path) -> pd.DataFrame:
    """Write the finished output folder and return its failures (`clip_id`, `reason`).

    A shard that is a part of the work store as it stands is hard-linked; any other is put together from its
    parts. What another recipe or a killed run left in the folder goes first, its manifest before anything; if
    the manifest is as it should be, each shard is replaced where it lies, since somebody may be reading it.

    Raises:
        ValueError: a clip is neither done nor failed: the stage before had other clips, or the store lost it.
    """
    where, reasons = done(recipe), failed(recipe)
    if lost := [clip_id for clip_id in clip_ids if clip_id not in where and clip_id not in reasons]:
        raise ValueError(
            f"{recipe.store} has neither a result nor a failure for {len(lost)} clips, e.g. {lost[0]}: "
            f"run the stage before {recipe.stage}, then {recipe.stage} again"
        )
    rows = {}
    for start in range(0, len(clip_ids), shard_size):
        if ids := [clip_id for clip_id in clip_ids[start : start + shard_size] if clip_id in where]:
            rows[f"{start:08d}-{min(start + shard_size, len(clip_ids)):08d}.safetensors"] = ids
    failures = [(clip_id, reasons[clip_id]) for clip_id in clip_ids if clip_id not in where]
    table = pd.DataFrame(failures, columns=["clip_id", "reason"], dtype="str")
    counts = {"digest": recipe.digest, "num_clips": len(clip_ids) - len(table), "shards": list(rows)}
    manifest = json.dumps({**asdict(recipe), **counts}, indent=1, sort_keys=True) + "\n"
    path = out / "manifest.json"
    with alone(str(out)):
        if not path.is_file() or path.read_text() != manifest:
            for old in [path, *out.glob("*.safetensors"), *out.glob(".*")]:
                old.unlink(missing_ok=True)
        for name, ids in rows.items():
            _publish_shard(out / name, ids, where)
        write_table(out / "failures.parquet", table)
        write_text(path, manifest)
    return table


def _publish_shard(path: Path, ids: list[str], where: dict[str, Path]) -> None:
    parts = {where[clip_id] for clip_id in ids}
    part = min(parts)
    if len(parts) == 1 and read_ids(part) == ids:
        with aside(path) as place:
            try:
                os.link(part, place)
            except OSError:  # another file system
                shutil.copyfile(part, place)
        return
    clips = {clip_id: tensors for part in sorted(parts) for clip_id, tensors in read_shard(part, set(ids))}
    write_shard(path, {clip_id: clips[clip_id] for clip_id in ids})
