"""One file read whole, by a process that may die of it: few imports, so that it starts in a blink."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from motive.clips.fingerprints import fingerprint, look, picks
from motive.clips.pieces import Piece, cut_up, frames_at
from motive.clips.shots import LOOK, find_cuts
from motive.clips.table import STANDARD
from motive.params import Clips
from motive.video.reading import BadClip, probe, stream_all, stream_frames


class Job(NamedTuple):
    """Work on one file, and what its result is kept under: path, size and time, or the sha256."""

    path: str
    key: str


def read_whole(job: Job, clips: Clips) -> dict[str, Any]:
    """Probe's fields and `pieces`, or the `reason` why this is no clip. Here alone file errors are caught."""
    try:
        return (_shots if clips.cut == "shots" else _whole)(Path(job.path), clips)
    except BadClip as reason:
        return {"reason": str(reason)}
    except MemoryError:
        return {"reason": "out of memory: reading it takes more than a process may have"}
    except ImportError:  # no file's fault
        raise
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
