"""Video files -> frames: what a player would show, at the moments and in the size the model wants.

Frames stream by: memory grows with the frames asked for, not with the clip.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOMEM
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from motive.errors import BadClip
from motive.video.decoding import TICK, Shown, decoded, on_screen, read_packets, seconds, sought
from motive.video.frames import read_pose, standardised

# Local files in real video formats only: a playlist could make the reader open other files or the network.
SAFE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpeg,mpegvideo,mpegts,flv,asf,ogg",
}
KEEPS_LENGTH = ("mov", "matroska", "avi")  # formats whose header says how long the clip is
BACK = (0.0, 2.0, 15.0)  # seconds before a moment at which its key frame is sought, until one is found
MAGIC = ((4, b"ftyp"), (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"), (0, b"GIF8"), (0, b"\0\0\1\xba"))


@dataclass(frozen=True)
class Probe:
    """What a file shows: sizes in pixels as a player shows them, mean frame rate, seconds."""

    num_frames: int
    height: int
    width: int
    fps: float
    duration: float


def probe(path: Path, max_pixels: int | None = None) -> Probe:
    """Measure a clip without decoding more than one frame.

    Raises:
        BadClip: empty, no video, larger than `max_pixels`, one frame, truncated, damaged.
    """
    num_frames, duration = _count(path, max_pixels)
    with _opened(path, max_pixels) as (container, stream):
        first = next(decoded(container, stream), None)
        if first is None:
            raise BadClip("damaged", "damaged: no frame can be decoded")
        height, width = read_pose(first.frame, stream).shown_size(first.frame)
    return _plausible(Probe(num_frames, height, width, round(num_frames / duration, 3), round(duration, 6)))


def read_frames(path: Path, num_frames: int, *rest: Any, **options: Any) -> np.ndarray:
    """All of `stream_frames`, which see, as one array, uint8 [F,H,W,3]."""
    stream = stream_frames(path, num_frames, *rest, **options)
    first = next(stream)
    frames = np.empty((num_frames, *first.shape), np.uint8)
    for k, frame in enumerate(chain([first], stream)):
        frames[k] = frame
    return frames


def stream_frames(
    path: Path,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    resample: Literal["window", "stretch"],
    max_pixels: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    grey: bool = False,
) -> Iterator[np.ndarray]:
    """Yield RGB frames, uint8 [H,W,3], or grey ones [H,W]; frame k is the one on the screen at its moment.

    The part of the file from `start` to `end` (seconds from its first frame; None: to the last) is the clip.
    `window`: moment k / fps from its start. `stretch`: evenly from its first frame to its last, at any rate.
    What is long before the part is not decoded.
    Scaled to cover height x width and cropped in the centre.

    Raises:
        BadClip: as `probe`, or too short for the window.
    """
    moments = start + np.arange(num_frames) / fps
    if resample == "stretch":
        moments = np.linspace(start, _last_moment(path, max_pixels, start, end), num_frames)
    with _frames_since(path, max_pixels, start) as (stream, frames):
        yield from _images(on_screen(frames, moments), stream, height, width, grey)


def _images(
    frames: Iterator[av.VideoFrame], stream: Any, height: int, width: int, grey: bool
) -> Iterator[np.ndarray]:
    """Each frame as a player shows it; one that stays on the screen is converted once."""
    pose = None
    before = None
    image = np.empty(0, np.uint8)
    for frame in frames:
        pose = pose or read_pose(frame, stream)
        if frame is not before:
            image = standardised(frame, pose, height, width, grey)
            before = frame
        yield image


def stream_all(
    path: Path, height: int, width: int, max_pixels: int | None = None
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Yield of each frame of a file when it appears, when it ends, and itself as `stream_frames` shows it."""
    with _opened(path, max_pixels) as (container, stream):
        usual = 1 / float(stream.average_rate or 25)
        pose = None
        for shown in decoded(container, stream):
            pose = pose or read_pose(shown.frame, stream)
            image = standardised(shown.frame, pose, height, width)
            yield shown.time, shown.time + (shown.length or usual), image


# ---- opening and counting


@contextmanager
def _opened(path: Path, max_pixels: int | None) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, ready to decode in one thread."""
    gc.collect(1)  # a frame whose pose was read holds itself, and its decoder's memory, in a circle
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if not head:
            raise BadClip("zero_bytes", "zero bytes")
        container = av.open(f"file:{path}", container_options=SAFE, metadata_errors="replace")
    except FFmpegError as error:
        raise _unopened(head, error) from None
    except OSError as error:
        raise BadClip("no_access", f"can't be read: {error.strerror}") from None
    with container:
        videos = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        stream = next(videos, None)
        if stream is None:
            inside = ", ".join(s.type for s in container.streams) or "nothing"
            raise BadClip("no_video_stream", f"no video stream: {inside} inside")
        codec = stream.codec_context
        if codec is None:
            raise BadClip("unknown_codec", "its codec is unknown here")
        if max_pixels is not None:
            if codec.height * codec.width > max_pixels:
                size = f"{codec.height} x {codec.width} pixels"
                raise BadClip("absurd_size", f"absurd size: {size}, clips.max_pixels is {max_pixels}")
            codec.options = {"max_pixels": str(max_pixels)}  # the stream may say otherwise than its header
        codec.thread_count = 1
        yield container, stream


def _plausible(seen: Probe) -> Probe:
    """Refuse what only a broken header says."""
    if max(seen.height, seen.width) > 32768:
        raise BadClip("absurd_size", f"absurd size: {seen.height} x {seen.width} pixels")
    if not 0.1 <= seen.fps <= 1000 or seen.duration > 86400:
        rate = f"{seen.fps:g} frames per second"
        raise BadClip("absurd_length", f"absurd rate or length: {rate}, {seen.duration:g} s")
    return seen


def _unopened(head: bytes, error: FFmpegError) -> BadClip:
    if error.errno == ENOMEM:
        return BadClip("out_of_memory", "out of memory: its header asks for too much")
    if any(head[at : at + len(magic)] == magic for at, magic in MAGIC):
        return BadClip("truncated", "truncated: its index is missing or broken")
    return BadClip("not_a_video", "not a video")


@dataclass
class _Timeline:
    """The frames of a stream that are shown: how many, from when to when, and how long the last one stays."""

    num_frames: int = 0
    first: float = float("inf")
    last: float = float("-inf")
    last_length: float = 0.0

    def add(self, time: float, length: float) -> None:
        self.num_frames += 1
        self.first = min(self.first, time)
        if time >= self.last:
            self.last = time
            self.last_length = length

    @property
    def duration(self) -> float:
        span = self.last - self.first
        return span + (self.last_length or span / (self.num_frames - 1))


def _count(path: Path, max_pixels: int | None) -> tuple[int, float]:
    """Number of frames and seconds, from the packets' time stamps, undecoded."""
    with _opened(path, max_pixels) as (container, stream):
        timeline = _Timeline()
        num_packets = 0
        end = 0.0  # of all streams
        for packet in read_packets(container):
            length = float((packet.duration or 0) * packet.time_base)
            end = max(end, seconds(packet) + length)
            if packet.stream_index == stream.index:
                num_packets += 1
                if not packet.is_discard:  # else cut off by an edit list: stored, never shown
                    timeline.add(seconds(packet), length)
        _check_whole(container, stream, num_packets, end)
    if timeline.num_frames < 2:
        raise BadClip("no_motion", f"{['no frame', 'one frame'][timeline.num_frames]}: nothing can move")
    if timeline.last <= timeline.first:
        raise BadClip("damaged", "no time stamps: all frames are at one moment")
    return timeline.num_frames, timeline.duration


def _check_whole(container: Any, stream: Any, num_packets: int, end: float) -> None:
    """Compare what is there with what the header promised."""
    if "avi" in container.format.name:  # it counts a frame that stays on the screen as many: ask the time
        num_packets = max(num_packets, round(end * float(stream.average_rate or 0)))
    if num_packets < 0.9 * stream.frames:
        raise BadClip("truncated", f"truncated: {num_packets} of {stream.frames} frames")
    keeps_length = container.format.name.startswith(KEEPS_LENGTH)
    promised = (container.duration or 0) / av.time_base if keeps_length else 0
    end -= min(0, container.start_time or 0) / av.time_base  # some count a late start in, some do not
    if end < 0.9 * promised and promised - end > 0.5:
        raise BadClip("truncated", f"truncated: ends at {max(0.0, end):.2f} s of {promised:.2f} s")


# ---- a part of a file


@contextmanager
def _frames_since(path: Path, max_pixels: int | None, moment: float) -> Iterator[tuple[Any, Iterator[Shown]]]:
    """The stream and its frames, as in the whole file, from a key frame at or before a moment on."""
    backs = BACK if moment > TICK else ()
    for back in backs:
        with _opened(path, max_pixels) as (container, stream):
            frames = sought(container, stream, max(0.0, moment - back))
            first = next(frames, None)
            if first is not None and first.time <= moment + TICK:
                yield stream, chain([first], frames)
                return
    with _opened(path, max_pixels) as (container, stream):
        yield stream, decoded(container, stream)


def _last_moment(path: Path, max_pixels: int | None, start: float, end: float | None) -> float:
    """When the last frame between two moments appears."""
    if start <= TICK:
        num_frames, duration = _count(path, max_pixels)
        if end is None or end >= duration - TICK:
            return duration * (num_frames - 1) / num_frames
    limit = float("inf") if end is None else end - TICK
    with _frames_since(path, max_pixels, start) as (_, frames):
        times = (shown.time for shown in frames)
        return max(chain([start], takewhile(lambda time: time < limit, times)))
