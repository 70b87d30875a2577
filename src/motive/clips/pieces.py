"""A film's shots cut up into pieces that are clips, or too short: `data/PART/clips/shots.parquet`."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from motive.clips.fingerprints import FRAMES
from motive.clips.sources import Entry
from motive.clips.table import clip_id, clips_folder
from motive.store.files import write_table
from motive.video.decoding import TICK

SHOTS = {
    "file": "str",
    "shot": "int64",  # position in the film, from 0
    "start": "float64",  # seconds from the film's first frame
    "end": "float64",
    "clip_id": "str",  # empty where the piece is none
    "reason": "str",  # why it is none
}


Row = dict[str, Any]


class Piece(NamedTuple):
    """A part of a file in seconds from its first frame, and why it is no clip (empty: it is)."""

    shot: int
    start: float
    end: float
    reason: str = ""
    fingerprint: str = ""


def cut_up(times: np.ndarray, cuts: Sequence[int], end: float, length: float | None) -> list[Piece]:
    """All of a film as pieces of `length` seconds in each shot and the rest of it, or (None) each shot whole.

    `times` [frames]: when frames appear; `cuts`: which begin a shot, but the first; `end`: of the film.
    """
    edges = [*times[[0, *cuts]].round(6).tolist(), round(end, 6)]
    counts = np.diff([0, *cuts, len(times)])
    pieces = []
    for shot, (start, stop) in enumerate(pairwise(edges)):
        if length is None:
            still = "" if counts[shot] > 1 else "one frame: nothing can move"
            pieces.append(Piece(shot, start, stop, still))
        else:
            pieces += _even(shot, start, stop, length)
    return pieces


def _even(shot: int, start: float, stop: float, length: float) -> list[Piece]:
    """Pieces of one length, and the rest."""
    count = int((stop - start + TICK) / length)
    edges = [round(start + k * length, 6) for k in range(count + 1)]
    rest = stop - edges[-1]
    if count and rest <= TICK:  # rounding
        edges[-1] = stop
    pieces = [Piece(shot, *edge) for edge in pairwise(edges)]
    reason = f"too short: {rest:.2f} s, needs {length:.2f} s"
    return [*pieces, Piece(shot, edges[-1], stop, reason)] if edges[-1] < stop else pieces


def frames_at(piece: Piece, times: np.ndarray, seconds: np.ndarray | None) -> np.ndarray:
    """Which frames are on the screen some seconds after a piece begins; None: evenly from first to last."""
    last = times[np.searchsorted(times, piece.end - TICK) - 1]
    moments = np.linspace(piece.start, last, FRAMES) if seconds is None else piece.start + seconds
    return np.searchsorted(times, moments + TICK, "right") - 1


# ---- all pieces of all files


def all_pieces(entries: Iterable[Entry], read: dict[str, dict[str, Any]], source: str) -> list[Row]:
    """A row for each piece of each file that can be read: the clip table's columns, and `Piece`'s."""
    rows: list[Row] = []
    for entry in entries:
        reading, caption = read.get(entry.file, {}), entry.caption or ""
        names = {"video": entry.file, "source": source, "caption": caption, "motion": entry.motion}
        for piece in reading.get("pieces", []):
            whole = piece["start"] == 0 and piece["end"] == reading["duration"]
            span = None if whole else (piece["start"], piece["end"])
            rows.append({**reading, **piece, **names, "clip_id": clip_id(reading["sha256"], caption, span)})
    return rows


def useless_files(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(file, reason of its longest piece) of the files that have no usable piece."""
    longest: dict[str, Row] = {}
    for row in rows:
        best = longest.setdefault(row["video"], row)
        if (not row["reason"], row["end"] - row["start"]) > (not best["reason"], best["end"] - best["start"]):
            longest[row["video"]] = row
    return [(file, row["reason"]) for file, row in longest.items() if row["reason"]]


def describe(rows: Iterable[Row]) -> str:
    """How much of the files became clips, for people."""
    seconds = {True: 0.0, False: 0.0}
    for row in rows:
        seconds[not row["reason"]] += row["end"] - row["start"]
    return f"{seconds[True]:.1f} s in clips, {seconds[False]:.1f} s too short or dropped (see shots.parquet)"


def write_shots(part: str, rows: Iterable[Row] | None) -> None:
    """Write which clip each piece of each film became, or why none; None: remove an earlier run's table."""
    path = clips_folder(part) / "shots.parquet"
    if rows is None:
        path.unlink(missing_ok=True)
        return
    told = [{**row, "file": row["video"], "clip_id": "" if row["reason"] else row["clip_id"]} for row in rows]
    table = pd.DataFrame(told, columns=list(SHOTS)).astype(SHOTS)  # type: ignore[arg-type]
    write_table(path, table.sort_values(by=["file", "start"]).reset_index(drop=True))
