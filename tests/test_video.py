"""Laws of reading video: the frame on the screen at its moment, as a player shows it, in any format."""

import gc
import itertools
import struct
import tracemalloc
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from motive.video import decoding
from motive.video import reading as video
from motive.video.frames import evenly_spaced, to_grey
from motive.video.reading import probe, read_frames, stream_all
from motive.video.writing import write_video
from testing.made_clips import SIZE, difference, encode, remux
from testing.real_clips import CLIPS, real_clip


@pytest.fixture(scope="session")
def bikes() -> np.ndarray:
    """Two seconds of a real clip, 24 frames, small."""
    return read_frames(real_clip("bikes.mp4"), 24, 12.0, *SIZE, "window")


def all_frames(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Every frame's moment and picture, read in the plainest way."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        moments = np.array([frame.time for frame in frames], float)
        return moments - moments[0], [frame.to_ndarray(format="rgb24") for frame in frames]


# ---- real clips


@pytest.mark.parametrize("name", ["bikes.mp4", "globe.avi", "city.mpg"])
def test_a_frame_is_the_one_on_the_screen_at_its_moment(name):
    moments, pictures = all_frames(real_clip(name))
    height, width = pictures[0].shape[:2]
    frames = read_frames(real_clip(name), 30, 11.0, height, width, "window")
    for k, frame in enumerate(frames):
        on_screen = np.flatnonzero(moments <= k / 11 + 1e-3)[-1]
        assert np.array_equal(frame, pictures[on_screen]), k


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


# ---- as a player shows it


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_rotation_is_applied(tmp_path, bikes, suffix, degrees, turns):
    upright = encode(tmp_path / f"upright.{suffix}", bikes, options={"crf": "5"})
    turned = encode(tmp_path / f"turned.{suffix}", bikes, rotation=degrees, options={"crf": "5"})
    height, width = SIZE[:: -1 if turns % 2 else 1]
    assert (probe(turned).height, probe(turned).width) == (height, width)
    expected = np.rot90(
        read_frames(upright, 8, 8.0, *SIZE, "window"), turns, axes=(1, 2)
    )  # counter-clockwise
    assert np.array_equal(read_frames(turned, 8, 8.0, height, width, "window"), expected)


def test_mirroring_is_applied(tmp_path, bikes):
    path = encode(tmp_path / "clip.mp4", bikes)
    plain = read_frames(path, 4, 8.0, *SIZE, "window")
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the matrix: version, times, ids and volumes stand before it
    assert struct.unpack(">9i", content[at : at + 36])[:5] == (65536, 0, 0, 0, 65536)
    content[at : at + 4] = struct.pack(">i", -65536)
    path.write_bytes(content)
    assert np.array_equal(read_frames(path, 4, 8.0, *SIZE, "window"), plain[:, :, ::-1])


def test_oblong_pixels_are_made_square(tmp_path, bikes):
    path = encode(tmp_path / "clip.mp4", bikes, aspect=Fraction(2, 1))
    assert (probe(path).height, probe(path).width) == (48, 160)
    frames = read_frames(path, 4, 8.0, 48, 160, "window")
    wide = [cv2.resize(image, (160, 48)) for image in bikes[[0, 1, 3, 4]]]
    assert difference(frames, np.array(wide)) < 6


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mov", "qtrle", "argb"),
        ("mov", "png", "rgba"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("webm", "libvpx", "yuva420p"),
    ],
)
def test_alpha_is_laid_over_black(tmp_path, bikes, suffix, codec, pix_fmt):
    alpha = np.zeros((*bikes.shape[:3], 1), np.uint8)
    alpha[:, :, 40:] = 255
    options = {"crf": "4", "b": "2M", "auto-alt-ref": "0"} if suffix == "webm" else {}
    bright = np.concatenate([np.maximum(bikes, 100), alpha], axis=3)
    path = encode(tmp_path / f"alpha.{suffix}", bright, codec=codec, pix_fmt=pix_fmt, options=options)
    frames = read_frames(path, 24, 12.0, *SIZE, "window")
    assert frames[:, :, :36].mean() < 2
    assert difference(frames[:, :, 44:], bright[:, :, 44:, :3]) < 8


def test_odd_sizes_are_read(tmp_path, bikes):
    odd = np.ascontiguousarray(bikes[:, :47, :79])
    path = encode(tmp_path / "odd.mkv", odd, codec="ffv1", pix_fmt="yuv420p")
    assert (probe(path).height, probe(path).width) == (47, 79)
    assert difference(read_frames(path, 24, 12.0, 47, 79, "window"), odd) < 6


def test_frames_cover_the_size_and_are_cropped_in_the_centre(tmp_path):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 200  # the centre square
    path = encode(tmp_path / "clip.mkv", np.stack([image] * 8), codec="ffv1", pix_fmt="bgr0")
    for size in (16, 64, 100):
        assert (read_frames(path, 4, 8.0, size, size, "window") == 200).all(), size
    assert read_frames(path, 4, 8.0, 32, 64, "window").mean() == pytest.approx(100)


def test_shrinking_averages(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    path = encode(
        tmp_path / "clip.mkv",
        np.repeat(board[None, ..., None], 8, 0).repeat(3, 3).astype(np.uint8),
        codec="ffv1",
        pix_fmt="bgr0",
    )
    assert np.abs(read_frames(path, 4, 8.0, 8, 8, "window").astype(int) - 128).max() <= 1


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


# ---- a part of a file

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
def test_a_part_is_what_decoding_from_the_beginning_gives(tmp_path, ride, name):
    how = dict(LONG[name])
    how |= {"times": varying(len(ride))} if how.pop("varying", False) else {}
    path = encode(tmp_path / name, ride, **how)
    check_parts(path, 24)


@pytest.mark.parametrize("name", ["city.mpg", "globe.avi", "bikes.mp4"])
def test_a_part_of_a_real_clip_too(name):
    check_parts(real_clip(name), 12)


def check_parts(path: Path, count: int) -> None:
    """Read parts from moments all over a file and compare them with all its frames."""
    times, _, whole = zip(*stream_all(path, *SIZE), strict=True)
    moments = np.array(times)
    for start in np.linspace(0, moments[-1] - 0.5, count):
        frames = read_frames(path, 5, 12.0, *SIZE, "window", start=float(start))
        on_screen = [np.flatnonzero(moments <= start + k / 12 + 1e-3)[-1] for k in range(5)]
        assert np.array_equal(frames, [whole[index] for index in on_screen]), start


def test_a_stretched_part_goes_from_its_first_frame_to_its_last(tmp_path, ride):
    times = varying(len(ride))
    path = encode(tmp_path / "vfr.mkv", ride, times=times, codec="ffv1", pix_fmt="bgr0")
    for first, after in ((0, 7), (30, 31), (40, 52), (80, 89)):  # of the frames; `after` is no longer in it
        span = {"start": times[first] / 1000, "end": times[after] / 1000}
        moments = np.linspace(times[first], times[after - 1], 6)
        expected = [ride[np.flatnonzero(times <= moment + 1)[-1]] for moment in moments]
        assert np.array_equal(read_frames(path, 6, 1.0, *SIZE, "stretch", **span), expected), first
    part = read_frames(path, 90, 1.0, *SIZE, "stretch", start=0.0, end=probe(path).duration)
    assert np.array_equal(part, read_frames(path, 90, 1.0, *SIZE, "stretch"))


def test_a_part_of_a_film_does_not_decode_what_is_before_it(monkeypatch):
    decoded: list[float] = []
    decode = video.decoded

    def counted(*args):
        for shown in decode(*args):
            decoded.append(shown.time)
            yield shown

    monkeypatch.setattr(decoding, "decoded", counted)
    read_frames(real_clip("bikes.mp4"), 9, 12.0, 32, 32, "window", start=8.0)
    assert sum(5 > time > 0 for time in decoded) == 0
    assert len(decoded) < 100  # of 250; the first frame says where time begins


def test_evenly_spaced_places_go_from_the_first_to_the_last():
    for count, wanted in itertools.product(range(1, 40), range(2, 12)):
        places = evenly_spaced(count, wanted)
        assert len(places) == min(count, wanted)
        assert (places[0], places[-1]) == (0, count - 1)
        gaps = np.diff(places)
        assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
        repeated = evenly_spaced(count, wanted, repeat=True)
        assert len(repeated) == wanted
        assert set(repeated) == set(places)
    assert evenly_spaced(0, 4).tolist() == []
