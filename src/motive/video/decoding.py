"""From packets to frames: each with its moment, from any moment on; the one on the screen at a moment."""

from collections.abc import Iterator
from errno import ENOMEM
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError

from motive.errors import BadClip, FailureKind

TICK = 1e-3  # seconds: containers round time stamps to milliseconds


class Shown(NamedTuple):
    """A frame, when it appears (seconds from the first) and for how long (0: unknown)."""

    time: float
    length: float
    frame: av.VideoFrame


def read_packets(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets with something in them."""
    time = 0.0
    try:
        for packet in container.demux(*streams):
            if packet.size and packet.time_base:
                yield packet
                time = seconds(packet)
    except FFmpegError as error:
        raise _damaged("reading", time, error) from None


def seconds(packet: Any) -> float:
    """When a packet is shown, in the time of its container."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return float((stamp or 0) * packet.time_base)


def decoded(container: Any, stream: Any, origin: int | None = None) -> Iterator[Shown]:
    """Each frame with its moment from `origin`, the file's first time stamp (None: the first that comes)."""
    start = None if origin is None else float(origin * stream.time_base)
    time = 0.0
    try:
        for index, frame in enumerate(_all_frames(container, stream)):
            if frame.pts is None and origin is not None:
                raise BadClip("damaged", f"damaged: no time stamp after {time:.2f} s")
            stamp = _stamp(frame, index, stream)
            start = stamp if start is None else start
            time = stamp - start
            yield Shown(time, float(frame.duration * stream.time_base), frame)
    except FFmpegError as error:
        raise _damaged("decoding", time, error) from None


def sought(container: Any, stream: Any, moment: float) -> Iterator[Shown]:
    """What `decoded` gives from some key frame on, sought at a moment; nothing where seeking does not work.

    What is shown before the key frame is not trusted: it may refer to frames that were not decoded.
    """
    try:
        first = next(decoded(container, stream), None)
        if first is None or first.frame.pts is None:
            return
        container.seek(first.frame.pts + int(moment / stream.time_base), stream=stream)
        frames = decoded(container, stream, first.frame.pts)
        key = next((shown for shown in frames if shown.frame.key_frame), None)
    except (BadClip, FFmpegError):
        return
    if key is not None:
        yield key
        yield from frames


def _stamp(frame: av.VideoFrame, index: int, stream: Any) -> float:
    """When a frame appears, in the time of its container; where it does not say, by its index."""
    if frame.pts is None:
        return index / float(stream.average_rate or 25)
    return float(frame.pts * stream.time_base)


def _all_frames(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    decoder = _decoder(stream)
    for packet in read_packets(container, stream):
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def _decoder(stream: Any) -> Any:
    """The stream's own decoder, or for VP8/VP9 with alpha the one that sees the alpha."""
    codec = stream.codec_context
    if codec.name not in ("vp8", "vp9") or stream.metadata.get("alpha_mode") != "1":
        return codec
    seeing = av.CodecContext.create(f"libvpx{'-vp9' if codec.name == 'vp9' else ''}", "r")
    seeing.extradata = codec.extradata
    seeing.thread_count = 1
    seeing.options = codec.options
    return seeing


def _damaged(what: str, time: float, error: FFmpegError) -> BadClip:
    kind: FailureKind = "out_of_memory" if error.errno == ENOMEM else "damaged"
    words = kind.replace("_", " ")
    return BadClip(kind, f"{words}: {what} fails after {time:.2f} s ({error.strerror})")


def on_screen(frames: Iterator[Shown], moments: np.ndarray) -> Iterator[av.VideoFrame]:
    """The frame shown at each moment (ascending seconds); the last stays its length and half a usual one."""
    now = next(frames, None)
    if now is None:
        raise BadClip("damaged", "damaged: no frame can be decoded")
    began = now.time
    num_intervals = 0
    k = 0
    for after in frames:
        while moments[k] + TICK < after.time:
            yield now.frame
            k += 1
            if k == len(moments):
                return
        now = after
        num_intervals += 1

    usual = (now.time - began) / max(1, num_intervals)
    end = now.time + (now.length or usual)
    if moments[-1] > end + usual / 2 + TICK:
        raise BadClip("too_short", f"too short: {end:.2f} s, needs {moments[-1]:.2f} s")
    yield from [now.frame] * (len(moments) - k)
