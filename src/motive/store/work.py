"""What is done under a recipe: kept in the work store chunk by chunk, and published as shards of row ranges.

A clip that was ever computed under the same recipe is never computed again, and the published bytes depend
only on the clips and the recipe: not on interruptions, on the number of workers, or on what was done before.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from motive.store.files import alone, aside, read_table, write_table, write_text
from motive.store.hashes import text_digest
from motive.store.recipes import Recipe
from motive.store.shards import Tensors, read_ids, read_shard, write_shard

log = logging.getLogger("motive")

Kind = Literal["unreadable", "not_finite"]  # of a failure: the video can't be decoded; no numbers come out
COLUMNS = ("clip_id", "kind", "reason")  # of failures.parquet


class Failure(NamedTuple):
    """Why a clip can't be done: one of a few kinds, and the reason in words, for people."""

    kind: Kind
    reason: str


# ---- the work store


def done(recipe: Recipe) -> dict[str, Path]:
    """clip_id -> the chunk of the work store that holds it. A damaged one does not count: it is made again.

    Raises:
        ValueError: the store is another recipe's; says what differs.
    """
    recipe.refuse_another()
    where: dict[str, Path] = {}
    for path in sorted(recipe.store.glob("*.safetensors")):
        try:
            where |= dict.fromkeys(read_ids(path), path)
        except ValueError as damage:  # not deleted: another run may have made it again by now
            log.warning("%s: %s", recipe.stage, damage)
    return where


def failed(recipe: Recipe) -> dict[str, Failure]:
    """clip_id -> why, for clips that were tried under this recipe and can't be done.

    What an earlier version kept has no kind: it does not count, and its clip is tried again.
    """
    failures: dict[str, Failure] = {}
    for path in sorted(recipe.store.glob("*.failures.json")):
        for clip_id, failure in json.loads(path.read_text()).items():
            if isinstance(failure, dict):
                failures[clip_id] = Failure(**failure)
    return failures


def pending(recipe: Recipe, clip_ids: list[str], shard_size: int) -> list[list[str]]:
    """What is still to do, in chunks that never cross a row range: a fresh run's chunks are its shards."""
    finished = done(recipe).keys() | failed(recipe).keys()
    chunks = []
    for start in range(0, len(clip_ids), shard_size):
        chunk = [clip_id for clip_id in clip_ids[start : start + shard_size] if clip_id not in finished]
        if chunk:
            chunks.append(chunk)
    return chunks


def read_done(recipe: Recipe, clip_ids: list[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield (clip_id, tensors) of those of these clips that are done, chunk by chunk."""
    where = done(recipe)
    wanted = set(clip_ids)
    for path in sorted({where[clip_id] for clip_id in clip_ids if clip_id in where}):
        yield from read_shard(path, wanted)


def write_chunk(recipe: Recipe, clips: dict[str, Tensors], failures: dict[str, Failure]) -> None:
    """Keep one finished chunk: its tensors, and why each clip failed that did."""
    recipe.claim()
    name = text_digest("".join([*clips, *failures]))
    if failures:
        values = {clip_id: failure._asdict() for clip_id, failure in failures.items()}
        text = json.dumps(values, indent=1, sort_keys=True)
        write_text(recipe.store / f"{name}.failures.json", text)
    if clips:
        write_shard(recipe.store / f"{name}.safetensors", clips)


def pass_on_failures(recipe: Recipe, *before: Path) -> None:
    """A clip that failed in one of these published folders fails here too, for the same reason."""
    ours = failed(recipe)
    new: dict[str, Failure] = {}
    for folder in before:
        for clip_id, failure in read_failures(folder).items():
            if clip_id not in ours:
                new[clip_id] = failure._replace(reason=f"{folder.name}: {failure.reason}")
    if new:
        write_chunk(recipe, {}, new)


# ---- the published folder


def read_failures(folder: Path) -> dict[str, Failure]:
    """clip_id -> why, for the clips that a published folder does not have.

    Raises:
        ValueError: there is no table, or it is of an earlier version.
    """
    path = folder / "failures.parquet"
    table = read_table(path)
    if table.empty:
        return {}
    if list(table.columns) != list(COLUMNS):
        raise ValueError(
            f"{path} is of an earlier version of motive: it has columns {list(table.columns)}, not "
            f"{list(COLUMNS)}. Delete {folder} and run its stage again with `dvc repro --force`"
        )
    return {row.clip_id: Failure(row.kind, row.reason) for row in table.itertuples()}  # type: ignore[arg-type]


def publish(recipe: Recipe, clip_ids: list[str], shard_size: int, out: Path) -> pd.DataFrame:
    """Write the finished output folder and return its failures (`clip_id`, `kind`, `reason`).

    A shard that is a chunk of the work store as it stands is hard-linked; any other is put together from its
    chunks. What another recipe or a killed run left in the folder goes first, its manifest before anything.
    If the manifest is as it should be, each shard is replaced where it lies: somebody may be reading it.

    Raises:
        ValueError: a clip is neither done nor failed: the stage before had other clips, or the store lost it.
    """
    # What the folder shall hold.
    where = done(recipe)
    failures = _failures(recipe, [clip_id for clip_id in clip_ids if clip_id not in where])
    shards = _row_ranges(clip_ids, where, shard_size)
    manifest = {
        **asdict(recipe),
        "digest": recipe.digest,
        "num_clips": len(clip_ids) - len(failures),
        "shards": list(shards),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"

    # The manifest of another folder goes first, this one's comes last.
    path = out / "manifest.json"
    with alone(str(out)):
        if not path.is_file() or path.read_text() != text:
            for old in [path, *out.glob("*.safetensors"), *out.glob(".*")]:
                old.unlink(missing_ok=True)
        for name, ids in shards.items():
            _publish_shard(out / name, ids, where)
        write_table(out / "failures.parquet", failures)
        write_text(path, text)
    return failures


def _failures(recipe: Recipe, clip_ids: list[str]) -> pd.DataFrame:
    """The table of these clips, none of which is done."""
    failures = failed(recipe)
    lost = [clip_id for clip_id in clip_ids if clip_id not in failures]
    if lost:
        raise ValueError(
            f"{recipe.store} has neither a result nor a failure for {len(lost)} clips, e.g. {lost[0]}: "
            f"run the stage before {recipe.stage}, then {recipe.stage} again"
        )
    rows = [(clip_id, *failures[clip_id]) for clip_id in clip_ids]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


def _row_ranges(clip_ids: list[str], where: dict[str, Path], shard_size: int) -> dict[str, list[str]]:
    """A shard's name, which is its range of rows -> those of its clips that are done."""
    shards = {}
    for start in range(0, len(clip_ids), shard_size):
        end = min(start + shard_size, len(clip_ids))
        ids = [clip_id for clip_id in clip_ids[start:end] if clip_id in where]
        if ids:
            shards[f"{start:08d}-{end:08d}.safetensors"] = ids
    return shards


def _publish_shard(path: Path, ids: list[str], where: dict[str, Path]) -> None:
    chunks = sorted({where[clip_id] for clip_id in ids})
    if len(chunks) == 1 and read_ids(chunks[0]) == ids:
        _link(chunks[0], path)
        return
    clips = {clip_id: tensors for chunk in chunks for clip_id, tensors in read_shard(chunk, set(ids))}
    write_shard(path, {clip_id: clips[clip_id] for clip_id in ids})


def _link(chunk: Path, path: Path) -> None:
    """One file under two names, or a copy of it where the work store is on another file system."""
    with aside(path) as place:
        try:
            os.link(chunk, place)
        except OSError:
            shutil.copyfile(chunk, place)
