"""Laws of spans of a video: the same frames as in the whole, and nothing long before them is decoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motive.video import decoding
from motive.video.reading import probe, read_frames, stream_all
from testing.made_clips import SIZE, encode
from testing.real_clips import real_clip

pytestmark = pytest.mark.slow

LONG = {
    "b_frames.mp4": {"options": {"g": "12", "bf": "3"}},
    "open_gop.mp4": {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0"}},
    "no_key_frames.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}},
    "b_frames.mkv": {"options": {"g": "12", "bf": "3"}},
    "varying.mkv": {"options": {"g": "12", "bf": "3"}, "varying": True},
    "varying.webm": {"codec": "libvpx-vp9", "options": {"g": "12", "crf": "10", "b": "0"}, "varying": True},
    "clip.avi": {"codec": "mpeg4", "options": {"g": "12", "qscale": "2", "flags": "+qscale"}},
    "b_frames.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2", "qscale": "2", "flags": "+qscale"}},
    "b_frames.mpg": {"codec": "mpeg2video", "rate": 24, "options": {"g": "12", "bf": "2", "b": "4000000"}},
    "b_frames.ts": {"options": {"g": "12", "bf": "3"}},
    "clip.gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 10},
}


@pytest.fixture(scope="session")
def ride() -> np.ndarray:
    """Ninety frames of a real clip, small."""
    return read_frames(real_clip("bikes.mp4"), 90, 12.0, *SIZE, "window")


def varying(count: int) -> np.ndarray:
    """Milliseconds at which frames appear, at no rate at all."""
    return np.cumsum([0, *np.tile([20, 150, 80], count)])[:count]


@pytest.mark.parametrize("name", LONG)
def test_a_span_is_what_decoding_from_the_beginning_gives(tmp_path, ride, name):
    settings: dict[str, Any] = dict(LONG[name])
    if settings.pop("varying", False):
        settings["times"] = varying(len(ride))
    path = encode(tmp_path / name, ride, **settings)
    check_spans(path, 24)


@pytest.mark.parametrize("name", ["city.mpg", "globe.avi", "bikes.mp4"])
def test_a_span_of_a_real_clip_too(name):
    check_spans(real_clip(name), 12)


def check_spans(path: Path, count: int) -> None:
    """Read spans from moments all over a file and compare them with all its frames."""
    times, _, whole = zip(*stream_all(path, *SIZE), strict=True)
    moments = np.array(times)
    for start in np.linspace(0, moments[-1] - 0.5, count):
        frames = read_frames(path, 5, 12.0, *SIZE, "window", start=float(start))
        on_screen = [np.flatnonzero(moments <= start + k / 12 + 1e-3)[-1] for k in range(5)]
        assert np.array_equal(frames, [whole[index] for index in on_screen]), start


def test_a_stretched_span_goes_from_its_first_frame_to_its_last(tmp_path, ride):
    times = varying(len(ride))
    path = encode(tmp_path / "vfr.mkv", ride, times=times, codec="ffv1", pix_fmt="bgr0")
    for first, after in ((0, 7), (30, 31), (40, 52), (80, 89)):  # of the frames; `after` is no longer in it
        span = {"start": times[first] / 1000, "end": times[after] / 1000}
        moments = np.linspace(times[first], times[after - 1], 6)
        expected = [ride[np.flatnonzero(times <= moment + 1)[-1]] for moment in moments]
        assert np.array_equal(read_frames(path, 6, 1.0, *SIZE, "stretch", **span), expected), first
    span = read_frames(path, 90, 1.0, *SIZE, "stretch", start=0.0, end=probe(path).duration)
    assert np.array_equal(span, read_frames(path, 90, 1.0, *SIZE, "stretch"))


def test_a_span_of_a_long_video_does_not_decode_what_is_before_it(monkeypatch):
    decoded: list[float] = []
    decode = decoding.decoded

    def counted(*args):
        for shown in decode(*args):
            decoded.append(shown.time)
            yield shown

    monkeypatch.setattr(decoding, "decoded", counted)
    read_frames(real_clip("bikes.mp4"), 9, 12.0, 32, 32, "window", start=8.0)
    assert sum(5 > time > 0 for time in decoded) == 0
    assert len(decoded) < 100  # of 250; the first frame says where time begins
