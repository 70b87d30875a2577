"""Folder of clips or films -> clip table: each file hashed and read once, so that every row can be read.

What was read before under the same parameters is taken from the work folder: ten new clips cost ten clips.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from motive.adapters.shots import LOOK, find_cuts
from motive.formats import clips as table
from motive.formats.duplicates import Duplicate, drop, exact_duplicates, write_duplicates
from motive.formats.fingerprints import fingerprint, look, picks, read_fingerprints
from motive.formats.pictures import write_png
from motive.formats.pieces import (
    Piece,
    Row,
    all_pieces,
    cut_up,
    describe,
    frames_at,
    useless_files,
    write_shots,
)
from motive.formats.shards import WORK
from motive.formats.sheets import clip_sheet
from motive.formats.sources import Entry, read_source
from motive.formats.video import BadClip, probe, stream_all, stream_frames
from motive.maths.duplicates import kept_for
from motive.params import Clips, Params
from motive.workers import deal

log = logging.getLogger("motive")

VERSION = 2  # raise it when the meaning of a reading changes
STANDARD = {"num_frames", "fps", "height", "width", "resample"}  # what stream_frames makes of a clip
HASHES = WORK / "clips" / "hashes"
LATER = {"source", "missing_caption", "max_failed_fraction", "duplicates", "near_duplicate_distance"}
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
    write_png(out / "clips.png", clip_sheet(clips, **params.clips.model_dump(include=STANDARD)))
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
    size = params.shards.size
    hashes = _done(HASHES, _sha256, files.values(), size, 1, f"{label}: hash")  # one is faster than a disk
    contents = {hashes[job.key]: job.path for job in files.values() if job.key in hashes}
    jobs = [Job(path, sha256) for sha256, path in contents.items()]
    reading = partial(_reading, clips=params.clips)
    size = 1 if params.clips.cut == "shots" else size  # a film takes minutes
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
    """Probe's fields and `pieces`, or the `reason` why this is no clip. Here alone file errors are caught."""
    try:
        return _shots(path, clips) if clips.cut == "shots" else _whole(path, clips)
    except BadClip as reason:
        return {"reason": str(reason)}
    except Exception as error:  # decoders fail in ways that nobody can list
        return {"reason": f"can't be decoded: {type(error).__name__}: {error}"}


def _whole(path: Path, clips: Clips) -> dict[str, Any]:
    """A file as one clip."""
    seen = probe(path, clips.max_pixels)
    how = clips.model_dump(include={*STANDARD, "max_pixels"})
    shown = set(picks(clips.num_frames))
    looks = {k: look(frame) for k, frame in enumerate(stream_frames(path, **how)) if k in shown}
    seen_as = fingerprint([looks[k] for k in picks(clips.num_frames)])
    whole = Piece(0, 0.0, seen.duration, fingerprint=seen_as)
    return {**vars(seen), "pieces": [whole._asdict()]}


def _shots(path: Path, clips: Clips) -> dict[str, Any]:
    """A film, decoded once, as the pieces between its cuts."""
    seen = probe(path, clips.max_pixels)
    scale = LOOK / max(clips.height, clips.width)
    size = (max(1, round(clips.height * scale)), max(1, round(clips.width * scale)))
    times: list[float] = []
    looks: list[np.ndarray] = []  # 322 bytes a frame
    end = 0.0

    def frames() -> Iterator[np.ndarray]:
        nonlocal end
        for time, end, picture in stream_all(path, *size, clips.max_pixels):  # noqa: B007
            times.append(time)
            looks.append(look(picture))
            yield picture

    cuts = find_cuts(frames(), clips.cut_threshold)
    seconds = picks(clips.num_frames) / clips.fps if clips.resample == "window" else None
    length = None if seconds is None else clips.num_frames / clips.fps
    pieces = cut_up(np.array(times), cuts, min(end, seen.duration), length)
    for k, piece in enumerate(pieces):
        if not piece.reason:
            shown = frames_at(piece, np.array(times), seconds)
            pieces[k] = piece._replace(fingerprint=fingerprint([looks[index] for index in shown]))
    return {**vars(seen), "pieces": [piece._asdict() for piece in pieces]}


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
    decides = clips.model_dump(exclude=LATER)
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
    first = [f"  {file}: {reason}" for file, reason in sorted(failures)[:10]]
    hint = (
        f"{folder}: {what}{_by_reason(failures)}. The first {len(first)} (all: {out / 'failures.parquet'}):"
    )
    raise ValueError("\n".join([hint, *first, "Repair or remove them, or raise clips.max_failed_fraction."]))


def _by_reason(failures: list[Failure]) -> str:
    """` (3 truncated, 1 zero bytes)`: a reason's kind stands before its first colon, bracket or ` of`."""
    kinds = Counter(reason.split(":")[0].split(" (")[0].split(" of ")[0] for _, reason in failures)
    return f" ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common())})" if kinds else ""
