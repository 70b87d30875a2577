"""Folder of clips or videos -> clip table: each file hashed and read once, so that every row can be read.

What was read before under the same parameters is taken from the work folder: ten new clips cost ten clips.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from motive.clips.duplicates import Duplicate, drop, find_duplicates, write_duplicates
from motive.clips.pieces import Candidate, all_candidates, describe, files_without_clip, write_shots
from motive.clips.reading import KeyedFile, read_whole, refusal
from motive.clips.sources import Entry, one_line, read_source
from motive.clips.table import (
    COLUMNS,
    FRAME_KEYS,
    Failure,
    read_clips,
    read_failures,
    write_clips,
    write_failures,
)
from motive.images.png import write_if_drawn
from motive.images.sheets import clip_sheet
from motive.params import Clips, Machine
from motive.store.files import write_text
from motive.store.hashes import hash_file, text_digest, values_digest
from motive.store.layout import stage_folder, work_folder
from motive.workers.guarded import Died, guarded

log = logging.getLogger("motive")

VERSION = 3  # raise it when the meaning of a reading changes
HASHES = work_folder("clips") / "hashes"
MEMORY = 2048  # MB that reading one file may take: 8K in 10 bits takes 810
SPARSE = 1 << 30  # bytes: a larger file that is mostly holes is no video
LATER = {  # keys that decide nothing of what is read
    "source",
    "missing_caption",
    "max_failed_fraction",
    "duplicates",
    "near_duplicate_distance",
    "time_limit",
}
Results = Generator[tuple[KeyedFile, Any], None, None]  # a file and what came of it; None: nothing to keep


def run(split: str, *, clips: Clips, machine: Machine) -> None:
    """Write `data/SPLIT/clips`: the usable clips, and the failures with their kinds and reasons.

    Raises:
        ValueError: no clips, more than `clips.max_failed_fraction` failed, or a check failed.
    """
    folder = Path(clips.source[split])
    out = stage_folder("clips", split)
    source = read_source(folder)
    entries, uncaptioned = _captioned(source.entries, clips.missing_caption)
    readings, unreadable = _read_all(folder, entries, clips, machine, label=f"clips {split}")
    candidates = all_candidates(entries, readings, str(folder))
    duplicates = find_duplicates(candidates, clips.near_duplicate_distance)
    drop(duplicates, clips.duplicates)

    # Every file is a row of the clip table or of the failures.
    usable = [candidate for candidate in candidates if not candidate["kind"]]
    failures = [*source.failures, *uncaptioned, *unreadable, *files_without_clip(candidates)]
    write_failures(split, failures)
    write_duplicates(split, duplicates)
    write_shots(split, candidates if clips.cut == "shots" else None)
    _stop_if_too_many(folder, usable, failures, clips.max_failed_fraction, out)
    write_clips(split, pd.DataFrame(usable, columns=list(COLUMNS)))

    from motive.checks import check  # loads for seconds

    table = read_clips(split)
    check("clips", table, failures=read_failures(split), file=out / "clips.parquet")
    sheet = partial(clip_sheet, table, **clips.model_dump(include=FRAME_KEYS))
    write_if_drawn(out / "clips.png", sheet)
    log.info("clips %s: %d usable, %d failed%s", split, len(table), len(failures), _by_kind(failures))
    if clips.cut == "shots":
        log.info("clips %s: %s", split, describe(candidates))
    _report_near(split, duplicates, out)
    look_at = ["clips.png", "clips.parquet", *(["failures.parquet"] if failures else [])]
    log.info("look at %s", ", ".join(str(out / name) for name in look_at))


def _captioned(entries: list[Entry], missing: str) -> tuple[list[Entry], list[Failure]]:
    """The entries that may go on, and the others as failures, by `clips.missing_caption`."""
    if missing == "empty":
        return entries, []
    reason = "no caption (clips.missing_caption is fail; empty would take it)"
    uncaptioned = [Failure(entry.file, "no_caption", reason) for entry in entries if entry.caption is None]
    return [entry for entry in entries if entry.caption is not None], uncaptioned


# ---- reading, once per content


def _read_all(
    folder: Path, entries: list[Entry], clips: Clips, machine: Machine, label: str
) -> tuple[dict[str, dict[str, Any]], list[Failure]]:
    """file -> its reading (`sha256`, `file_size`, Probe's fields, `pieces`), and what can't be read."""
    files, failures = _files(folder, entries)
    hashes = _done(HASHES, list(files.values()), _hashed, machine.shard_size, f"{label}: hash")
    contents: dict[str, KeyedFile] = {}
    for file in files.values():
        if file.key in hashes:
            contents[hashes[file.key]] = file._replace(key=hashes[file.key])
    results = _read_contents(list(contents.values()), clips, machine, f"{label}: read")
    readings: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        sha256 = hashes.get(file.key)
        if sha256 is None:
            failures.append(Failure(name, "no_access", "can't be read: no permission, or its disk fails"))
        elif "kind" in results[sha256]:
            failures.append(Failure(name, **results[sha256]))
        else:
            readings[name] = {"sha256": sha256, "file_size": file.size, **results[sha256]}
    return readings, failures


def _files(folder: Path, entries: list[Entry]) -> tuple[dict[str, KeyedFile], list[Failure]]:
    """file -> what is to be hashed, under a key that changes when the file does."""
    files: dict[str, KeyedFile] = {}
    failures: list[Failure] = []
    for entry in entries:
        path = folder / entry.file
        try:
            stat = path.stat()
        except OSError as error:
            failures.append(Failure(entry.file, "no_access", f"can't be read: {error.strerror}"))
            continue
        size = stat.st_size
        stored = 512 * getattr(stat, "st_blocks", size)  # a hole of petabytes takes days to hash
        if size > SPARSE and stored < size / 2:
            failures.append(Failure(entry.file, "sparse", f"sparse: {stored} of {size} bytes are stored"))
            continue
        files[entry.file] = KeyedFile(str(path), f"{path.resolve()} {size} {stat.st_mtime_ns}", size)
    return files, failures


def _read_contents(
    files: list[KeyedFile], clips: Clips, machine: Machine, label: str
) -> dict[str, dict[str, Any]]:
    """sha256 -> reading or refusal of these files, whose keys these are."""
    store = _store(clips)
    late = store / f"hung_{clips.time_limit:g}"  # only a file that hung depends on the limit
    hung = _load(late)
    todo = [file for file in files if file.key not in hung]
    reading = partial(_guarded, clips=clips, num_workers=machine.workers, late=late)
    size = 1 if clips.cut == "shots" else machine.shard_size  # a long video takes minutes
    readings = _done(store, todo, reading, size, label)
    return _load(late) | readings


def _done(
    store: Path,
    files: list[KeyedFile],
    work: Callable[[list[KeyedFile], str], Results],
    size: int,
    label: str,
) -> dict[str, Any]:
    """key -> result of all these files, making what is not in the store, `size` between two savings."""
    results = _load(store)
    todo = [file for file in files if file.key not in results]
    log.info("%s %d files, %d of them new", label, len(files), len(todo))
    fresh: dict[str, Any] = {}
    with closing(work(todo, label)) as finished:
        try:
            for file, result in finished:
                if result is not None:
                    fresh[file.key] = result
                if len(fresh) >= size:
                    _keep(store, fresh)
                    results |= fresh
                    fresh = {}
        finally:
            _keep(store, fresh)
    return results | fresh


def _guarded(files: list[KeyedFile], label: str, clips: Clips, num_workers: int, late: Path) -> Results:
    """Each file with its reading, by processes that may die; what hung is kept beside."""
    work = partial(read_whole, clips=clips)
    for file, result in guarded(work, files, num_workers, clips.time_limit, MEMORY, label):
        if not isinstance(result, Died):
            yield file, result
        elif result.hung:
            _keep(late, {file.key: refusal("hung", f"{result.reason} (clips.time_limit)")})
            yield file, None
        else:
            yield file, refusal("crashed", result.reason)


def _hashed(files: list[KeyedFile], label: str) -> Results:
    """Each file with its sha256, one by one: that is faster than a disk."""
    for file in tqdm(files, desc=label, unit="clip", disable=not files):
        yield file, _sha256(Path(file.path))


def _sha256(path: Path) -> str | None:
    """Of the content; None where it can't be read, so that the next run tries again."""
    try:
        return hash_file(path)
    except OSError:
        return None


# ---- the work folder: small JSON files, each written once: runs side by side don't disturb each other


def _store(clips: Clips) -> Path:
    """Where readings lie: decided by all that decides them."""
    decides = clips.model_dump(exclude=LATER)
    return work_folder("clips") / values_digest({"version": VERSION, **decides})


def _load(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            results |= json.loads(path.read_bytes())
        except ValueError:  # cut by a full disk: read those clips again
            path.unlink(missing_ok=True)
    return results


def _keep(folder: Path, results: dict[str, Any]) -> None:
    if results:
        text = json.dumps(results, indent=1, sort_keys=True)
        write_text(folder / f"{text_digest(text)}.json", text)


# ---- the result


def _report_near(split: str, duplicates: list[Duplicate], out: Path) -> None:
    num_near = sum(duplicate.kind == "near" for duplicate in duplicates)
    if num_near:
        log.info("clips %s: %d near duplicates: %s", split, num_near, out / "duplicates.parquet")


def _stop_if_too_many(
    folder: Path, usable: list[Candidate], failures: list[Failure], limit: float, out: Path
) -> None:
    num_usable = len({candidate["video"] for candidate in usable})
    total = num_usable + len(failures)
    if num_usable and len(failures) <= limit * total:
        return
    (out / "clips.parquet").unlink(missing_ok=True)  # of an earlier run
    what = f"no usable clip among {total}"
    if num_usable:
        what = f"{len(failures)} of {total} clips failed, clips.max_failed_fraction is {limit:g}"
    first = [one_line(f"  {failure.file}: {failure.reason}") for failure in sorted(failures)[:10]]
    lines = [
        f"{folder}: {what}{_by_kind(failures)}. The first {len(first)} (all: {out / 'failures.parquet'}):",
        *first,
        "Repair or remove them, or raise clips.max_failed_fraction.",
    ]
    raise ValueError("\n".join(lines))


def _by_kind(failures: Iterable[Failure]) -> str:
    """E.g. ` (3 truncated, 1 zero bytes)`."""
    counts = Counter(failure.kind.replace("_", " ") for failure in failures).most_common()
    return f" ({', '.join(f'{count} {kind}' for kind, count in counts)})" if counts else ""
