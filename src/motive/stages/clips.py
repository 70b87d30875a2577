"""Folder of clips or films -> clip table: each file hashed and read once, so that every row can be read.

What was read before under the same parameters is taken from the work folder: ten new clips cost ten clips.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from motive.clips import table
from motive.clips.duplicates import Duplicate, drop, exact_duplicates, write_duplicates
from motive.clips.fingerprints import read_fingerprints
from motive.clips.pieces import Row, all_pieces, describe, useless_files, write_shots
from motive.clips.reading import Job, read_whole
from motive.clips.sources import Entry, one_line, read_source
from motive.images.png import write_if_drawn
from motive.images.sheets import clip_sheet
from motive.maths.duplicates import kept_for
from motive.params import Clips, Params
from motive.store.files import write_text
from motive.store.hashes import hash_file, text_digest, values_digest
from motive.store.layout import work_folder
from motive.workers.guarded import Died, guarded

log = logging.getLogger("motive")

VERSION = 2  # raise it when the meaning of a reading changes
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
Failure = tuple[str, str]  # file, reason


def run(part: str, params: Params) -> None:
    """Write `data/PART/clips`: the usable clips, and the failures with their reasons.

    Raises:
        ValueError: no clips, more than `clips.max_failed_fraction` failed, or a check failed.
    """
    folder = Path(params.clips.source[part])
    source = read_source(folder)
    entries, uncaptioned = _captioned(source.entries, params.clips.missing_caption)
    read, unreadable = _read_all(folder, entries, params, label=f"clips {part}")
    rows = all_pieces(entries, read, str(folder))
    duplicates = _duplicates(rows, params.clips.near_duplicate_distance)
    drop(duplicates, params.clips.duplicates)
    broken = [(file, reading["reason"]) for file, reading in read.items() if "reason" in reading]
    failures = [*source.failures, *uncaptioned, *unreadable, *broken, *useless_files(rows)]
    usable = [row for row in rows if not row["reason"]]
    out = table.clips_folder(part)
    table.write_failures(part, pd.DataFrame(failures, columns=list(table.FAILURES)))
    write_duplicates(part, duplicates)
    write_shots(part, rows if params.clips.cut == "shots" else None)
    num_files = len({row["video"] for row in usable})
    _stop_if_too_many(folder, num_files, failures, params.clips.max_failed_fraction, out)
    table.write_clips(part, pd.DataFrame(usable, columns=list(table.COLUMNS)))
    from motive.checks import check

    clips = table.read_clips(part)
    check("clips", clips, file=out / "clips.parquet")
    draw = partial(clip_sheet, clips, **params.clips.model_dump(include=table.STANDARD))
    write_if_drawn(out / "clips.png", draw)
    log.info("clips %s: %d usable, %d failed%s", part, len(clips), len(failures), _by_reason(failures))
    if params.clips.cut == "shots":
        log.info("clips %s: %s", part, describe(rows))
    if num_near := sum(duplicate.kind == "near" for duplicate in duplicates):
        log.info("clips %s: %d near duplicates: %s", part, num_near, out / "duplicates.parquet")
    look_at = ["clips.png", "clips.parquet", *(["failures.parquet"] if failures else [])]
    log.info("look at %s", ", ".join(str(out / name) for name in look_at))


def _captioned(entries: list[Entry], missing: str) -> tuple[list[Entry], list[Failure]]:
    """The entries that may go on, and the others as failures, by `clips.missing_caption`."""
    if missing == "empty":
        return entries, []
    reason = "no caption (clips.missing_caption is fail; empty would take it)"
    uncaptioned = [(entry.file, reason) for entry in entries if entry.caption is None]
    return [entry for entry in entries if entry.caption is not None], uncaptioned


# ---- reading, once per content


def _read_all(
    folder: Path, entries: list[Entry], params: Params, label: str
) -> tuple[dict[str, dict], list[Failure]]:
    """file -> its reading (`sha256`, and Probe's fields or `reason`), and the files that can't be opened."""
    files, unreadable = _files(folder, entries)
    size, clips = params.shards.size, params.clips
    jobs = list(files.values())
    hashes = _done(HASHES, jobs, partial(_hashed, label=f"{label}: hash"), size, f"{label}: hash")
    contents = {hashes[job.key]: job.path for job in jobs if job.key in hashes}
    jobs = [Job(path, sha256) for sha256, path in contents.items()]
    size = 1 if clips.cut == "shots" else size  # a film takes minutes
    late = _store(clips) / f"hung_{clips.time_limit:g}"  # only a file that hung depends on the limit
    hung = _load(late)
    new = [job for job in jobs if job.key not in hung]
    reading = partial(_guarded, params=params, late=late, label=f"{label}: read")
    readings = _done(_store(clips), new, reading, size, f"{label}: read")
    readings = _load(late) | readings
    read = {}
    for file, job in files.items():
        if job.key in hashes:
            read[file] = {"sha256": hashes[job.key], **readings[hashes[job.key]]}
        else:
            unreadable.append((file, "can't be read: no permission, or its disk fails"))
    return read, unreadable


def _files(folder: Path, entries: list[Entry]) -> tuple[dict[str, Job], list[Failure]]:
    """file -> its job of hashing, with a key that changes when the file does."""
    jobs, unreadable = {}, []
    for entry in entries:
        path = folder / entry.file
        try:
            stat = path.stat()
        except OSError as error:
            unreadable.append((entry.file, f"can't be read: {error.strerror}"))
            continue
        stored = 512 * getattr(stat, "st_blocks", stat.st_size)  # a hole of petabytes takes days to hash
        if stat.st_size > SPARSE and stored < stat.st_size / 2:
            unreadable.append((entry.file, f"sparse: {stored} of {stat.st_size} bytes are stored"))
            continue
        jobs[entry.file] = Job(str(path), f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return jobs, unreadable


def _done(
    store: Path,
    jobs: list[Job],
    results: Callable[[list[Job]], Generator[tuple[Job, Any], None, None]],
    size: int,
    label: str,
) -> dict[str, Any]:
    """key -> result of all these jobs, doing those that are not in the store, `size` between two savings."""
    known, fresh = _load(store), {}
    todo = [job for job in jobs if job.key not in known]
    log.info("%s %d files, %d of them new", label, len(jobs), len(todo))
    with closing(results(todo)) as found:
        try:
            for job, result in found:
                if result is not None:
                    fresh[job.key] = result
                if len(fresh) >= size:
                    _keep(store, fresh)
                    known.update(fresh)
                    fresh = {}
        finally:
            _keep(store, fresh)
    return known | fresh


def _guarded(
    jobs: list[Job], params: Params, late: Path, label: str
) -> Generator[tuple[Job, Any], None, None]:
    """Each job with its reading, by processes that may die; what hung is kept beside."""
    work, limit = partial(read_whole, clips=params.clips), params.clips.time_limit
    for job, result in guarded(work, jobs, params.workers, limit, MEMORY, label):
        if isinstance(result, Died) and result.hung:
            _keep(late, {job.key: {"reason": f"{result.reason} (clips.time_limit)"}})
            yield job, None
        else:
            yield job, {"reason": result.reason} if isinstance(result, Died) else result


def _hashed(jobs: list[Job], label: str) -> Generator[tuple[Job, str | None], None, None]:
    """Each job with its sha256, one by one: that is faster than a disk."""
    for job in tqdm(jobs, desc=label, unit="clip", disable=not jobs):
        yield job, _sha256(Path(job.path))


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
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found |= json.loads(path.read_bytes())
        except ValueError:  # cut by a full disk: read those clips again
            path.unlink(missing_ok=True)
    return found


def _keep(folder: Path, results: dict[str, Any]) -> None:
    if not results:
        return
    text = json.dumps(results, indent=1, sort_keys=True)
    write_text(folder / f"{text_digest(text)}.json", text)


# ---- the result


def _duplicates(rows: list[Row], limit: float) -> list[Duplicate]:
    """Who shows what another shows: the first file stays of the same bytes, the largest of the same look."""
    exact = list(exact_duplicates(rows))
    again = {id(duplicate.row) for duplicate in exact}
    seen = [row for row in rows if row["fingerprint"] and id(row) not in again]
    if len(seen) < 2:
        return exact
    seen.sort(key=lambda row: -row["height"] * row["width"])
    prints = read_fingerprints([row["fingerprint"] for row in seen])
    kept = kept_for(prints, np.unique([row["video"] for row in seen], return_inverse=True)[1], limit)
    return [*exact, *(Duplicate(seen[k], seen[of], "near", apart) for k, (of, apart) in kept.items())]


def _stop_if_too_many(
    folder: Path, num_usable: int, failures: list[Failure], limit: float, out: Path
) -> None:
    total = num_usable + len(failures)
    if num_usable and len(failures) <= limit * total:
        return
    (out / "clips.parquet").unlink(missing_ok=True)  # of an earlier run
    what = f"{len(failures)} of {total} clips failed, clips.max_failed_fraction is {limit:g}"
    what = what if num_usable else f"no usable clip among {total}"
    first = [one_line(f"  {file}: {reason}") for file, reason in sorted(failures)[:10]]
    hint = (
        f"{folder}: {what}{_by_reason(failures)}. The first {len(first)} (all: {out / 'failures.parquet'}):"
    )
    raise ValueError("\n".join([hint, *first, "Repair or remove them, or raise clips.max_failed_fraction."]))


def _by_reason(failures: list[Failure]) -> str:
    """` (3 truncated, 1 zero bytes)`: a reason's kind stands before its first colon, bracket or ` of`."""
    reasons = [reason.removeprefix(f"{file} ") for file, reason in failures]
    kinds = Counter(reason.split(":")[0].split(" (")[0].split(" of ")[0] for reason in reasons).most_common()
    named = [one_line(f"{count} {kind[:60]}") for kind, count in kinds[:12]]
    return f" ({', '.join([*named, '...'][: len(kinds)])})" if kinds else ""
