"""Variants of a clip for the tests: any codec, container, rate, rotation, shape of pixels; with sound."""

from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (48, 80)  # height, width
STABLE = {"x264-params": "mbtree=0:cpu-independent=1", "threads": "1"}  # else two encodings differ
MILLISECOND = Fraction(1, 1000)


def encode(
    path: Path, frames: np.ndarray, *, codec="libx264", pix_fmt="yuv420p", rate=12, **settings: Any
) -> Path:
    """Write RGB or RGBA frames [F,H,W,C]; `times` in milliseconds make the rate vary."""
    with av.open(str(path), "w", options=settings.get("container", {})) as container:
        options = (STABLE if codec == "libx264" else {}) | settings.get("options", {})
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if "times" in settings:
            stream.codec_context.time_base = MILLISECOND
        if "rotation" in settings:
            stream.set_display_rotation(settings["rotation"])
        if "aspect" in settings:
            stream.codec_context.sample_aspect_ratio = settings["aspect"]
        sound = container.add_stream("aac", rate=16000) if settings.get("audio") else None
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            if "times" in settings:
                frame.pts = int(settings["times"][k])
                frame.time_base = MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            mux_silence(container, sound, seconds=4)
    return path


def mux_silence(container: Any, sound: Any, seconds: int) -> None:
    """Put silence into an AAC stream of 16 kHz."""
    silence = np.zeros((1, 16000 * seconds), np.float32)
    samples = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
    samples.sample_rate = 16000
    for packet in chain(sound.encode(samples), sound.encode(None)):
        container.mux(packet)


def remux(source: Path, path: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                write.mux(packet)
    return path


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two clips, in grey levels."""
    return float(np.abs(a.astype(int) - b).mean())
