"""One file read whole, by a process that may die of it: few imports, so that it starts in a blink."""

from pathlib import Path
from typing import Any, NamedTuple

from motive.formats.video import BadClip, probe, read_frames
from motive.params import Clips


class Job(NamedTuple):
    """Work on one file, and what its result is kept under: path, size and time, or the sha256."""

    path: str
    key: str


def read_whole(job: Job, clips: Clips) -> dict[str, Any]:
    """Probe's fields, or the `reason` why this is no clip. Here alone anything a file causes is caught."""
    path, size = Path(job.path), (clips.num_frames, clips.fps, clips.height, clips.width, clips.resample)
    try:
        seen = probe(path, clips.max_pixels)
        read_frames(path, *size, max_pixels=clips.max_pixels)
    except BadClip as reason:
        return {"reason": str(reason)}
    except MemoryError:
        return {"reason": "out of memory: reading it takes more than a process may have"}
    except ImportError:  # no file's fault
        raise
    except Exception as error:  # decoders fail in ways that nobody can list
        return {"reason": f"can't be decoded: {type(error).__name__}: {error}"}
    return vars(seen)
