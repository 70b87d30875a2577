"""Laws of video files: the frame on the screen at its moment, in any format; what is written is read."""

import gc
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from motive.video.frames import to_grey
from motive.video.reading import probe, read_frames
from motive.video.writing import write_video
from testing.made_clips import SIZE, difference, encode, remux
from testing.real_clips import CLIPS, real_clip

pytestmark = pytest.mark.slow


def all_frames(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Every frame's moment and image, read in the plainest way."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        moments = np.array([frame.time for frame in frames], float)
        return moments - moments[0], [frame.to_ndarray(format="rgb24") for frame in frames]


# ---- real clips


@pytest.mark.parametrize("name", ["bikes.mp4", "globe.avi", "city.mpg"])
def test_a_frame_is_the_one_on_the_screen_at_its_moment(name):
    moments, images = all_frames(real_clip(name))
    height, width = images[0].shape[:2]
    frames = read_frames(real_clip(name), 30, 11.0, height, width, "window")
    for k, frame in enumerate(frames):
        on_screen = np.flatnonzero(moments <= k / 11 + 1e-3)[-1]
        assert np.array_equal(frame, images[on_screen]), k


@pytest.mark.parametrize(
    ("name", "num_frames", "height", "width", "fps"),
    [
        ("walker.mp4", 230, 994, 1768, 30),
        ("globe.avi", 150, 270, 480, 29.801),
        ("city.mpg", 190, 405, 720, 25),
        ("joint.gif", 22, 240, 320, 20),
        ("bikes.mp4", 250, 272, 640, 25),
        ("carphone.mp4", 120, 144, 193, 29.97),  # 176 pixels stored, 12:11 wide
        ("bunny.mp4", 132, 720, 1280, 25),
    ],
)
def test_real_clips_are_measured_and_read(name, num_frames, height, width, fps):
    assert name in CLIPS
    seen = probe(real_clip(name))
    assert (seen.num_frames, seen.height, seen.width, seen.fps) == (num_frames, height, width, fps)
    assert seen.duration == pytest.approx(num_frames / fps, rel=1e-4)
    frames = read_frames(real_clip(name), 9, 8.0, 64, 64, "window")
    assert frames.std() > 10
    assert min(difference(a, b) for a, b in pairwise(frames)) > 0.1  # something moves


# ---- formats

FORMATS = {
    "mp4": {},
    "mov": {},
    "mkv": {},
    "webm": {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0"}},
    "avi": {"codec": "mpeg4", "options": {"qscale": "2", "flags": "+qscale"}},
    "mpg": {"codec": "mpeg2video", "rate": 24, "options": {"b": "4000000"}},
    "gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 10},
    "ten_bits.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p10le"},
    "h264_b_frames.avi": {"codec": "mpeg4", "options": {"bf": "2", "qscale": "2", "flags": "+qscale"}},
    "audio.mp4": {"audio": True},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_the_same_clip(tmp_path, bikes, name):
    rate = FORMATS[name].get("rate", 12)
    path = encode(tmp_path / f"clip.{name}", bikes, **FORMATS[name])
    seen = probe(path)
    assert (seen.num_frames, seen.height, seen.width) == (len(bikes), *SIZE)
    assert seen.fps == pytest.approx(rate, rel=2e-3)
    frames = read_frames(path, len(bikes), float(rate), *SIZE, "window")
    assert difference(frames, bikes) < (20 if "gif" in name else 6)
    wrong = [difference(frames[:-1], bikes[1:]), difference(frames[1:], bikes[:-1])]
    assert difference(frames, bikes) < 0.8 * min(wrong)  # not one frame early or late


ALSO = {
    "full_range.avi": {
        "codec": "mjpeg",
        "pix_fmt": "yuvj420p",
        "options": {"qscale": "2", "flags": "+qscale"},
    },
    "turned.mp4": {"rotation": 90},
    "upside_down.mp4": {"rotation": 180},
    "upside_down_full_range.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "rotation": 180},
    "wide_pixels.mp4": {"aspect": Fraction(4, 3)},
    "whole_colours.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "no_luma.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
}


@pytest.mark.parametrize("name", FORMATS | ALSO)
@pytest.mark.parametrize("size", [SIZE, (30, 62)])
def test_grey_frames_are_the_coloured_ones_in_grey(tmp_path, bikes, name, size):
    path = encode(tmp_path / f"clip.{name}", bikes, **(FORMATS | ALSO)[name])
    coloured = read_frames(path, 9, 10.0, *size, "window")
    grey = read_frames(path, 9, 10.0, *size, "window", grey=True)
    wanted = np.stack([to_grey(frame) for frame in coloured])
    assert (grey.shape, grey.dtype) == (wanted.shape, np.uint8)
    assert difference(grey, wanted) < 2.5  # colours are made with an error: rounded down, and clipped
    assert abs(grey.std() / wanted.std() - 1) < 0.02  # from 0 to 255, however it is stored


def test_the_container_does_not_matter(tmp_path, bikes):
    write_video(tmp_path / "clip.mp4", bikes, 12.0)
    frames = read_frames(tmp_path / "clip.mp4", 20, 9.7, 32, 32, "window")
    for suffix in ("mkv", "mov", "ts"):
        path = remux(tmp_path / "clip.mp4", tmp_path / f"clip.{suffix}")
        assert np.array_equal(read_frames(path, 20, 9.7, 32, 32, "window"), frames), suffix


def test_what_was_read_is_let_go(tmp_path, bikes):
    """A frame whose pose was read holds itself in a circle: without care it stays until far later."""
    write_video(tmp_path / "clip.mp4", bikes, 12.0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            read_frames(tmp_path / "clip.mp4", 4, 9.7, 32, 32, "window", start=0.5)
        alive = [thing for thing in gc.get_objects() if type(thing) is av.VideoFrame]
    finally:
        gc.enable()
    assert len(alive) <= 2


def test_a_varying_rate_follows_the_time_stamps(tmp_path, bikes):
    times = np.cumsum([0, *np.tile([20, 150, 80], 8)])[: len(bikes)]
    path = encode(tmp_path / "vfr.mkv", bikes, times=times, codec="ffv1", pix_fmt="bgr0")
    frames = read_frames(path, 20, 12.0, *SIZE, "window")
    expected = [bikes[np.flatnonzero(times <= 1000 * k / 12 + 1)[-1]] for k in range(20)]
    assert np.array_equal(frames, expected)
    assert probe(path).fps == pytest.approx(12, rel=0.05)


def test_stretch_goes_from_the_first_frame_to_the_last(tmp_path, bikes):
    path = encode(tmp_path / "clip.mkv", bikes, codec="ffv1", pix_fmt="bgr0")
    assert np.array_equal(read_frames(path, 24, 1.0, *SIZE, "stretch"), bikes)
    frames = read_frames(path, 5, 1.0, *SIZE, "stretch")
    assert np.array_equal(frames, bikes[[0, 5, 11, 17, 23]])
    doubled = read_frames(path, 47, 1.0, *SIZE, "stretch")
    assert np.array_equal(doubled, bikes[np.arange(47) // 2])


# ---- memory


def test_a_very_long_thin_clip_makes_no_giant_between(tmp_path):
    path = encode(tmp_path / "thin.mkv", np.zeros((4, 2, 16384, 3), np.uint8), codec="ffv1", pix_fmt="bgr0")
    tracemalloc.start()
    read_frames(path, 4, 12.0, 64, 64, "window")
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_clip(tmp_path):
    peaks = []
    for length in (30, 600):
        frames = np.zeros((length, 240, 320, 3), np.uint8)
        path = encode(tmp_path / f"{length}.mp4", frames, options={"preset": "ultrafast"})
        del frames
        tracemalloc.start()
        read_frames(path, 17, 12.0, 64, 64, "stretch")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1e5


# ---- writing


def test_what_is_written_is_read_and_the_same_frames_are_the_same_bytes(tmp_path, bikes):
    for name in ("a.mp4", "deep/b.mp4"):
        write_video(tmp_path / name, bikes, 12.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "deep" / "b.mp4").read_bytes()
    frames = read_frames(tmp_path / "a.mp4", 24, 12.0, *SIZE, "window")
    assert difference(frames, bikes) < 5
    assert {path.name for path in tmp_path.rglob("*")} == {"a.mp4", "deep", "b.mp4"}  # nothing is left aside


def test_the_bytes_do_not_depend_on_what_the_process_did_before(tmp_path, bikes):
    square = read_frames(
        real_clip("bikes.mp4"), 17, 12.0, 64, 64, "window"
    )  # x264's defaults fail with this one
    seen = set()
    for name in ("carphone.mp4", "globe.avi", "city.mpg", "bikes.mp4") * 2:
        read_frames(
            real_clip(name), 9, 8.0, 64, 64, "window"
        )  # leaves its traces in the memory that is used next
        write_video(tmp_path / "clip.mp4", square, 12.0)
        seen.add((tmp_path / "clip.mp4").read_bytes())
    assert len(seen) == 1


def test_odd_sizes_can_not_be_written(tmp_path, bikes):
    with pytest.raises(ValueError, match="even"):
        write_video(tmp_path / "a.mp4", bikes[:, :47], 12.0)
