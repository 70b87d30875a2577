"""One file read whole, by a process that may die of it: few imports, so that it starts in a blink."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from motive.clips.fingerprints import fingerprint, look, picks
from motive.clips.pieces import Piece, cut_up, frames_at
from motive.clips.shots import LOOK, find_cuts
from motive.clips.table import FRAME_KEYS
from motive.errors import BadClip, FailureKind
from motive.params import Clips
from motive.video.reading import probe, stream_all, stream_frames


class KeyedFile(NamedTuple):
    """A file, what its hash or reading is kept under (path, size and time, or the sha256), and its bytes."""

    path: str
    key: str
    size: int


def read_whole(file: KeyedFile, clips: Clips) -> dict[str, Any]:
    """Probe's fields and `pieces`, or why this is no clip. Here alone file errors are caught."""
    try:
        return (_shots if clips.cut == "shots" else _whole)(Path(file.path), clips)
    except BadClip as error:
        return refusal(error.kind, error.reason)
    except MemoryError:
        return refusal("out_of_memory", "out of memory: reading it takes more than a process may have")
    except ImportError:  # no file's fault
        raise
    except Exception as error:  # decoders fail in ways that nobody can list
        return refusal("damaged", f"can't be decoded: {type(error).__name__}: {error}")


def refusal(kind: FailureKind, reason: str) -> dict[str, Any]:
    """The reading of a file that can't be a clip."""
    return {"kind": kind, "reason": reason}


def _whole(path: Path, clips: Clips) -> dict[str, Any]:
    """A file as one clip."""
    video = probe(path, clips.max_pixels)
    settings = clips.model_dump(include={*FRAME_KEYS, "max_pixels"})
    shown = picks(clips.num_frames)
    looks = {k: look(frame) for k, frame in enumerate(stream_frames(path, **settings)) if k in shown}
    whole = Piece(0, 0.0, video.duration, fingerprint=fingerprint([looks[k] for k in shown]))
    return {**vars(video), "pieces": [whole._asdict()]}


# ---- a video of many shots


class Seen(NamedTuple):
    """What is kept of the frames of a video, which are decoded once."""

    times: np.ndarray  # [frames], seconds at which they appear
    looks: list[np.ndarray]  # 322 bytes a frame
    cuts: list[int]  # frames that begin a shot, but the first
    end: float  # seconds


def _shots(path: Path, clips: Clips) -> dict[str, Any]:
    """A video as the pieces between its cuts."""
    video = probe(path, clips.max_pixels)
    seen = _see(path, clips)
    seconds = None
    length = None
    if clips.resample == "window":
        seconds = picks(clips.num_frames) / clips.fps
        length = clips.num_frames / clips.fps
    pieces = [
        piece if piece.kind else _with_fingerprint(piece, seen, seconds)
        for piece in cut_up(seen.times, seen.cuts, min(seen.end, video.duration), length)
    ]
    return {**vars(video), "pieces": [piece._asdict() for piece in pieces]}


def _see(path: Path, clips: Clips) -> Seen:
    """Look at every frame, in the size that the detector of cuts wants."""
    scale = LOOK / max(clips.height, clips.width)
    size = (max(1, round(clips.height * scale)), max(1, round(clips.width * scale)))
    times: list[float] = []
    looks: list[np.ndarray] = []
    end = 0.0

    def images() -> Iterator[np.ndarray]:
        nonlocal end
        for time, end, image in stream_all(path, *size, clips.max_pixels):  # noqa: B007
            times.append(time)
            looks.append(look(image))
            yield image

    cuts = find_cuts(images(), clips.cut_threshold)
    return Seen(np.array(times), looks, cuts, end)


def _with_fingerprint(piece: Piece, seen: Seen, seconds: np.ndarray | None) -> Piece:
    shown = frames_at(piece, seen.times, seconds)
    return piece._replace(fingerprint=fingerprint([seen.looks[index] for index in shown]))
