"""Folder of clips -> clip table: each file hashed, measured and read once, so that every row can be read.

What was read before under the same parameters is taken from the work folder: ten new clips cost ten clips.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from motive.formats import clips as table
from motive.formats.shards import WORK
from motive.formats.sources import Entry, read_source
from motive.formats.video import BadClip, probe, read_frames
from motive.params import Clips, Params
from motive.workers import deal

log = logging.getLogger("motive")

VERSION = 1  # raise it when the meaning of a reading changes
HASHES = WORK / "clips" / "hashes"
Failure = tuple[str, str]  # file, reason


class Job(NamedTuple):
    """Work on one file, and what its result is kept under: path, size and time, or the sha256."""

    path: str
    key: str


def run(part: str, params: Params) -> None:
    """Write `data/PART/clips`: the usable clips, and the failures with their reasons.

    Raises:
        ValueError: no clips, more than `clips.max_failed_fraction` failed, or a check failed.
    """
    folder = Path(params.clips.source[part])
    source = read_source(folder)
    entries, uncaptioned = _captioned(source.entries, params.clips.missing_caption)
    read, unreadable = _read_all(folder, entries, params, label=f"clips {part}")
    rows, broken = _rows(entries, read, str(folder))
    failures = [*source.failures, *uncaptioned, *unreadable, *broken]
    out = table.clips_folder(part)
    failed = pd.DataFrame(failures, columns=list(table.FAILURES))
    table.write_failures(part, failed)
    _stop_if_too_many(folder, len(rows), failures, params.clips.max_failed_fraction, out)
    table.write_clips(part, pd.DataFrame(rows, columns=list(table.COLUMNS)))
    from motive.checks import check

    check("clips", table.read_clips(part), file=out / "clips.parquet")
    log.info("clips %s: %d usable, %d failed%s", part, len(rows), len(failures), _by_reason(failures))
    log.info("look at %s%s", out / "clips.parquet", f" and {out / 'failures.parquet'}" if failures else "")


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
    size = params.shards.size
    hashes = _done(HASHES, _sha256, files.values(), size, 1, f"{label}: hash")  # one is faster than a disk
    contents = {hashes[job.key]: job.path for job in files.values() if job.key in hashes}
    jobs = [Job(path, sha256) for sha256, path in contents.items()]
    reading = partial(_reading, clips=params.clips)
    readings = _done(_store(params.clips), reading, jobs, size, params.workers, f"{label}: read")
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
        jobs[entry.file] = Job(str(path), f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return jobs, unreadable


def _done(
    store: Path, work: Callable[[Path], Any], jobs: Iterable[Job], size: int, num_workers: int, label: str
) -> dict[str, Any]:
    """key -> result of all these jobs, doing those that are not in the store, `size` between two savings."""
    known, jobs = _load(store), list(jobs)
    todo = [job for job in jobs if job.key not in known]
    log.info("%s %d files, %d of them new", label, len(jobs), len(todo))
    chunks = [todo[start : start + size] for start in range(0, len(todo), size)]
    deal(partial(_do_chunk, store=store, work=work), chunks, num_workers, total=len(todo), label=label)
    return _load(store) if todo else known


def _do_chunk(jobs: list[Job], store: Path, work: Callable[[Path], Any]) -> int:
    results = {job.key: work(Path(job.path)) for job in jobs}
    _keep(store, {key: result for key, result in results.items() if result is not None})
    return len(jobs)


def _reading(path: Path, clips: Clips) -> dict[str, Any]:
    """Probe's fields, or the `reason` why this is no clip. Here alone anything a file causes is caught."""
    size = (clips.num_frames, clips.fps, clips.height, clips.width, clips.resample)
    try:
        seen = probe(path, clips.max_pixels)
        read_frames(path, *size, max_pixels=clips.max_pixels)
    except BadClip as reason:
        return {"reason": str(reason)}
    except Exception as error:  # decoders fail in ways that nobody can list
        return {"reason": f"can't be decoded: {type(error).__name__}: {error}"}
    return vars(seen)


def _sha256(path: Path) -> str | None:
    """Of the content; None where it can't be read, so that the next run tries again."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


# ---- the work folder: small JSON files, each written once: runs side by side don't disturb each other


def _store(clips: Clips) -> Path:
    """Where readings lie: decided by all that decides them."""
    decides = clips.model_dump(exclude={"source", "missing_caption", "max_failed_fraction"})
    recipe = json.dumps({"version": VERSION, **decides}, sort_keys=True)
    return WORK / "clips" / hashlib.sha256(recipe.encode()).hexdigest()[:16]


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
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    aside = folder / f".{name}.{os.getpid()}"
    aside.write_text(text)
    os.replace(aside, folder / f"{name}.json")


# ---- the result


def _rows(entries: Iterable[Entry], read: dict[str, dict], source: str) -> tuple[list[dict], list[Failure]]:
    """A row for each content that can be read, by the first file that has it; the others as failures."""
    rows: list[dict] = []
    failures: list[Failure] = []
    first: dict[str, str] = {}
    for entry in entries:
        if entry.file not in read:
            continue
        reading = read[entry.file]
        sha256, caption = reading["sha256"], entry.caption or ""
        if "reason" in reading:
            failures.append((entry.file, reading["reason"]))
        elif sha256 in first:
            failures.append((entry.file, f"duplicate of {first[sha256]}"))
        else:
            first[sha256] = entry.file
            names = {"clip_id": table.clip_id(sha256, caption), "video": entry.file, "source": source}
            rows.append({**names, "caption": caption, "motion": entry.motion, **reading})
            rows[-1] |= {"start": 0.0, "end": reading["duration"]}
    return rows, failures


def _stop_if_too_many(
    folder: Path, num_usable: int, failures: list[Failure], limit: float, out: Path
) -> None:
    total = num_usable + len(failures)
    if num_usable and len(failures) <= limit * total:
        return
    (out / "clips.parquet").unlink(missing_ok=True)  # of an earlier run
    what = f"{len(failures)} of {total} clips failed, clips.max_failed_fraction is {limit:g}"
    what = what if num_usable else f"no usable clip among {total}"
    first = [f"  {file}: {reason}" for file, reason in sorted(failures)[:10]]
    hint = (
        f"{folder}: {what}{_by_reason(failures)}. The first {len(first)} (all: {out / 'failures.parquet'}):"
    )
    raise ValueError("\n".join([hint, *first, "Repair or remove them, or raise clips.max_failed_fraction."]))


def _by_reason(failures: list[Failure]) -> str:
    """` (3 truncated, 1 zero bytes)`: a reason's kind stands before its first colon, bracket or ` of`."""
    kinds = Counter(reason.split(":")[0].split(" (")[0].split(" of ")[0] for _, reason in failures)
    return f" ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})" if kinds else ""
