"""One shard: the tensors of some clips in one file; and a published folder of them, in row order."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from motive.store.files import write_tensors

Tensors = dict[str, torch.Tensor]
BLOCK = 1 << 16  # bytes to read at once: a million sketches one by one take half a minute


# ---- one file


def write_shard(path: Path, clips: dict[str, Tensors]) -> None:
    """Write clip_id -> tensors as one file, whole or not at all, same bytes for the same content.

    A tensor that has one shape and dtype in all clips is stacked, else each clip's stands by itself.
    """
    tensors: Tensors = {}
    for name in sorted(set().union(*clips.values())):
        column = {f"{name}/{clip_id}": clip[name].contiguous() for clip_id, clip in clips.items()}
        if len({(tensor.shape, tensor.dtype) for tensor in column.values()}) == 1:
            tensors[name] = torch.stack(list(column.values()))
        else:
            tensors |= column
    write_tensors(path, tensors, {"motive": json.dumps({"clip_ids": list(clips)})})


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
        names = {key.split("/")[0] for key in shard.keys()}  # noqa: SIM118
        for start, ids in _blocks(path, clip_ids):
            if only is None or not only.isdisjoint(ids):
                block = {name: _rows(shard, name, start, ids) for name in names}
                for row, clip_id in enumerate(ids):
                    if only is None or clip_id in only:
                        yield clip_id, {name: rows[row] for name, rows in block.items()}


def _blocks(path: Path, clip_ids: list[str]) -> Iterator[tuple[int, list[str]]]:
    """A shard's clips, a few small ones at once: the row where they start, and their ids."""
    step = max(1, BLOCK * len(clip_ids) // path.stat().st_size)
    for start in range(0, len(clip_ids), step):
        yield start, clip_ids[start : start + step]


def _rows(shard: Any, name: str, start: int, clip_ids: list[str]) -> torch.Tensor | list[torch.Tensor]:
    """A tensor of these clips, which begin at row `start`: stacked, or one by one where shapes differ."""
    if f"{name}/{clip_ids[0]}" in shard.keys():  # noqa: SIM118
        return [shard.get_tensor(f"{name}/{clip_id}") for clip_id in clip_ids]
    return shard.get_slice(name)[start : start + len(clip_ids)]


def read_column(path: Path, name: str) -> torch.Tensor:
    """All rows of one tensor of one shard, if its clips have it in one shape."""
    with _opened(path) as (shard, _):
        return shard.get_tensor(name)


# ---- a published folder


def read_manifest(folder: Path) -> dict:
    """The manifest of a published folder.

    Raises:
        ValueError: the folder has none: the stage has not finished.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no manifest.json: its stage has not finished; run `dvc repro`")
    return json.loads(path.read_text())


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a published folder in row order, after its manifest."""
    return [folder / name for name in read_manifest(folder)["shards"]]


def locate(folder: Path) -> dict[str, Path]:
    """clip_id -> its shard, for all clips of a published folder, in row order."""
    return {clip_id: path for path in shard_paths(folder) for clip_id in read_ids(path)}


def read_clip_tensors(where: dict[str, Path], clip_ids: list[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield (clip_id, tensors) of these clips, shard by shard; see `locate`."""
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
        ids = read_ids(path)
        rows = read_column(path, name)
        if not clip_ids:  # one allocation: joined at the end, a million sketches would be there twice
            tensor = rows.new_empty(read_manifest(folder)["num_clips"], *rows.shape[1:])
        tensor[len(clip_ids) : len(clip_ids) + len(ids)] = rows
        clip_ids += ids
    return clip_ids, tensor


def read_aligned(folder: Path, clip_ids: list[str], *names: str) -> list[torch.Tensor]:
    """These tensors of a published folder, [n, ...] for n clips; zeros for a clip that is not there."""
    tensors: Tensors = {}
    row_of: dict[str, int] = {}
    start = 0  # the row at which the next shard may stand in one piece
    for path in shard_paths(folder):
        ids = read_ids(path)
        if clip_ids[start : start + len(ids)] == ids:
            kept = slice(None)
            rows = slice(start, start + len(ids))
            start += len(ids)
        else:  # some failed, or others are wanted: rows are looked up, and placed singly
            row_of = row_of or {clip_id: row for row, clip_id in enumerate(clip_ids)}
            rows = torch.tensor([row_of.get(clip_id, -1) for clip_id in ids])
            kept = rows >= 0
            rows = rows[kept]
            start = row_of.get(ids[-1], -1) + 1
        for name in names:
            column = read_column(path, name)
            if name not in tensors:
                tensors[name] = column.new_zeros(len(clip_ids), *column.shape[1:])
            tensors[name][rows] = column[kept]
    return [tensors.get(name, torch.zeros(len(clip_ids))) for name in names]


# ---- for the checks


def summarise(folder: Path, name: str, read: Callable[[Any], Any] = torch.Tensor.float) -> pd.DataFrame:
    """One row a clip: `clip_id`, `finite`, `min`, `max`, `norm` of a tensor; `ok` if the shards have it.

    `read` makes floats of what is stored. An empty tensor is not finite.
    """
    clip_ids: list[str] = []
    numbers = [torch.empty(0, 3)]
    ok: list[torch.Tensor] = []
    for path in shard_paths(folder):
        clip_ids += read_ids(path)
        numbers += _min_max_norm(path, name, read)
        ok += _flags(path)
    table = pd.DataFrame(torch.cat(numbers).double().numpy(), columns=["min", "max", "norm"])
    table.insert(0, "clip_id", pd.Series(clip_ids, dtype="str"))  # of a dtype to join with, even if empty
    table.insert(1, "finite", np.isfinite(table["min"]) & np.isfinite(table["max"]))  # both pass NaN on
    return table.assign(ok=torch.cat(ok).bool().numpy()) if ok else table


def _min_max_norm(path: Path, name: str, read: Callable[[Any], Any]) -> Iterator[torch.Tensor]:
    """[n,3] for each n rows of a tensor of one shard, a few small ones at once; NaN of nothing."""
    with _opened(path) as (shard, clip_ids):
        for start, ids in _blocks(path, clip_ids):
            rows = _rows(shard, name, start, ids)
            stacks = [rows] if isinstance(rows, torch.Tensor) else [row[None] for row in rows]
            yield from (_summary(read(stack).flatten(1)) for stack in stacks)


def _summary(values: torch.Tensor) -> torch.Tensor:
    """[n,3] of values [n,m]."""
    if not values.shape[1]:
        return values.new_full((len(values), 3), torch.nan)
    return torch.stack([*values.aminmax(dim=1), values.norm(dim=1)], 1)


def _flags(path: Path) -> list[torch.Tensor]:
    """`ok` of one shard, if it has it."""
    with _opened(path) as (shard, _):
        # What is not copied keeps the shard mapped.
        return [shard.get_tensor("ok").clone()] if "ok" in shard.keys() else []  # noqa: SIM118
