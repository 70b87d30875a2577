"""Laws of frames: turned, cropped, scaled and coloured as a player shows them; some at even distances."""

import itertools
import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest

from motive.video.frames import evenly_spaced
from motive.video.reading import probe, read_frames
from testing.made_clips import SIZE, difference, encode


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
