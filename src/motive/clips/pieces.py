"""A video's shots cut up into pieces that are clips, or too short: `data/SPLIT/clips/shots.parquet`."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from motive.clips.fingerprints import FRAMES
from motive.clips.sources import Entry
from motive.clips.table import Failure, clip_id, write_sorted
from motive.errors import FailureKind
from motive.store.layout import stage_folder
from motive.video.decoding import TICK

SHOTS = {
    "file": "str",
    "shot": "int64",  # position in the video, from 0
    "start": "float64",  # seconds from the video's first frame
    "end": "float64",
    "clip_id": "str",  # empty where the piece is none
    "kind": "str",  # of failure; empty where the piece is a clip
    "reason": "str",  # the same in words
}

# A piece of a file that will be a clip if its `kind` stays empty: the clip table's columns, and Piece's.
Candidate = dict[str, Any]


class Piece(NamedTuple):
    """Some seconds of a file, from its first frame, and why they are no clip (empty: they are)."""

    shot: int
    start: float
    end: float
    kind: FailureKind | Literal[""] = ""
    reason: str = ""
    fingerprint: str = ""


def cut_up(times: np.ndarray, cuts: Sequence[int], end: float, length: float | None) -> list[Piece]:
    """All of a video: in each shot pieces of `length` seconds and the rest, or (None) each shot whole.

    `times` [frames]: when frames appear; `cuts`: which begin a shot, but the first; `end`: of the video.
    """
    edges = [*times[[0, *cuts]].round(6).tolist(), round(end, 6)]
    num_frames = np.diff([0, *cuts, len(times)])
    pieces: list[Piece] = []
    for shot, (start, stop) in enumerate(pairwise(edges)):
        if length is not None:
            pieces += _even(shot, start, stop, length)
        elif num_frames[shot] > 1:
            pieces.append(Piece(shot, start, stop))
        else:
            pieces.append(Piece(shot, start, stop, "no_motion", "one frame: nothing can move"))
    return pieces


def _even(shot: int, start: float, stop: float, length: float) -> list[Piece]:
    """Pieces of one length, and the rest."""
    count = int((stop - start + TICK) / length)
    edges = [round(start + k * length, 6) for k in range(count + 1)]
    rest = stop - edges[-1]
    if count and rest <= TICK:  # rounding
        edges[-1] = stop
    pieces = [Piece(shot, *edge) for edge in pairwise(edges)]
    if edges[-1] < stop:
        pieces.append(
            Piece(shot, edges[-1], stop, "too_short", f"too short: {rest:.2f} s, needs {length:.2f} s")
        )
    return pieces


def frames_at(piece: Piece, times: np.ndarray, seconds: np.ndarray | None) -> np.ndarray:
    """Which frames are on the screen some seconds after a piece begins; None: evenly from first to last."""
    last = times[np.searchsorted(times, piece.end - TICK) - 1]
    moments = np.linspace(piece.start, last, FRAMES) if seconds is None else piece.start + seconds
    return np.searchsorted(times, moments + TICK, "right") - 1


# ---- all pieces of all files


def all_candidates(
    entries: Iterable[Entry], readings: dict[str, dict[str, Any]], source: str
) -> list[Candidate]:
    """Each piece of each file that has a reading."""
    return [
        _candidate(entry, readings[entry.file], piece, source)
        for entry in entries
        if entry.file in readings
        for piece in readings[entry.file]["pieces"]
    ]


def _candidate(entry: Entry, reading: dict[str, Any], piece: dict[str, Any], source: str) -> Candidate:
    caption = entry.caption or ""
    is_whole = piece["start"] == 0 and piece["end"] == reading["duration"]
    span = None if is_whole else (piece["start"], piece["end"])
    return {
        **reading,
        **piece,
        "clip_id": clip_id(reading["sha256"], caption, span),
        "video": entry.file,
        "source": source,
        "caption": caption,
        "motion": entry.motion,
    }


def files_without_clip(candidates: Iterable[Candidate]) -> list[Failure]:
    """The files that have no usable piece, each with what is wrong with its longest."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        rival = best.setdefault(candidate["video"], candidate)
        if (not candidate["kind"], _seconds(candidate)) > (not rival["kind"], _seconds(rival)):
            best[candidate["video"]] = candidate
    return [Failure(file, one["kind"], one["reason"]) for file, one in best.items() if one["kind"]]


def describe(candidates: Sequence[Candidate]) -> str:
    """How much of the files became clips, for people."""
    used = sum(_seconds(candidate) for candidate in candidates if not candidate["kind"])
    lost = sum(_seconds(candidate) for candidate in candidates if candidate["kind"])
    return f"{used:.1f} s in clips, {lost:.1f} s too short or dropped (see shots.parquet)"


def _seconds(candidate: Candidate) -> float:
    return candidate["end"] - candidate["start"]


def write_shots(split: str, candidates: Iterable[Candidate] | None) -> None:
    """Write which clip each piece of each video became, or why none; None: remove an earlier run's table."""
    path = stage_folder("clips", split) / "shots.parquet"
    if candidates is None:
        path.unlink(missing_ok=True)
        return
    rows = [
        {**one, "file": one["video"], "clip_id": "" if one["kind"] else one["clip_id"]} for one in candidates
    ]
    write_sorted(path, rows, SHOTS, by=["file", "start"])
