"""Kinds of hostile files: what is no video, fuzzed real clips, and clips that are odd but fine.

A maker writes one file of its kind at a path, by a generator of random numbers; some write files beside it.
Kinds that point out of the folder or are cut into boxes stand in hostile_boxes.py.
"""

import io
import os
import socket
import sys
import wave
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from testing.made_clips import encode

Expected = Literal["usable", "failed", "either"]
Rng = np.random.Generator


class Given(NamedTuple):
    """What makers start from: two seconds of a clip, uint8 [F,H,W,3]; whole files; what lies outside."""

    frames: np.ndarray
    clips: dict[str, bytes]  # container -> a clip in it
    secret: Path  # a clip outside the folder
    url: str  # of a server that counts

    def drawn(self, rng: Rng) -> np.ndarray:
        """The frames, moved so that no two files are the same."""
        moved = np.roll(self.frames, rng.integers(1, 79), axis=2)
        return np.roll(moved, rng.integers(1, 47), axis=1) ^ rng.integers(0, 8, dtype=np.uint8)


Maker = Callable[[Path, Given, Rng], object]


class Kind(NamedTuple):
    """How a file is made, under which suffix, what must become of it, and whether several differ."""

    make: Maker
    suffix: str
    expected: Expected
    fuzzed: bool


KINDS: dict[str, Kind] = {}


def kind(expected: Expected, suffix: str = "mp4", fuzzed: bool = False) -> Callable[[Maker], Maker]:
    """Enter a maker under its name."""

    def enter(make: Any) -> Maker:
        KINDS[make.__name__] = Kind(make, suffix, expected, fuzzed)
        return make

    return enter


def add(name: str, expected: Expected, make: Maker, suffix: str = "mp4", fuzzed: bool = False) -> None:
    KINDS[name] = Kind(make, suffix, expected, fuzzed)


# ---- no video at all


def content(data: bytes) -> Maker:
    """Write these bytes, with a few more that make each file another."""
    return lambda path, given, rng: path.write_bytes(data + rng.bytes(4) if data else b"")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(10_000_000))
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(16000))
    return buffer.getvalue()


PNG = b"\x89PNG\r\n\x1a\n"
for _name, _data in {
    "empty_file": b"",
    "one_byte": b"\0",
    "plain_text": b"this is no video\n" * 99,
    "html_page": b"<!doctype html><html><body>404 not found</body></html>",
    "pdf_renamed": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
    "elf_renamed": b"\x7fELF\x02\x01\x01" + bytes(2000),
    "zip_bomb_renamed": zipped(),
    "png_renamed": PNG + b"\0\0\0\rIHDR" + bytes(400),
    "jpeg_renamed": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(400),
    "subtitles_renamed": b"1\n00:00:00,000 --> 00:00:02,000\nhello\n",
    "wav_renamed": sound(),
    "zeros": bytes(100_000),
    "pipe_of_json": b'{"streams": [' * 9999,
    "mp4_header_only": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41",
    "huge_box_declared": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\0\x01moov" + b"\x7f" * 400,
    "deep_boxes": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41"
    + b"".join(
        (800_008 - 8 * depth).to_bytes(4, "big") + (b"moov", b"trak")[depth > 0] for depth in range(100_000)
    ),
    "webm_header_only": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
    "huge_ebml_size": b"\x1aE\xdf\xa3\x01\x7f\xff\xff\xff\xff\xff\xff" + bytes(400),
    "deep_ebml": b"\x1aE\xdf\xa3\x80" + b"\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff" * 20_000,
    "avi_header_only": b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrlavih" + b"\xff" * 60,
    "nested_lists_avi": b"RIFF\xff\xff\xff\x7fAVI " + b"LIST\xff\xff\xff\x7fhdrl" * 20_000,
}.items():
    add(_name, "failed", content(_data))


@kind("failed", fuzzed=True)
def noise(path: Path, given: Given, rng: Rng) -> object:
    return path.write_bytes(rng.bytes(50_000))


# ---- files of the disk that are no files


@kind("failed")
def pipe(path: Path, given: Given, rng: Rng) -> object:
    return os.mkfifo(path)


@kind("failed")
def unix_socket(path: Path, given: Given, rng: Rng) -> object:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


@kind("failed")
def sparse_terabyte(path: Path, given: Given, rng: Rng) -> None:
    with path.open("wb") as file:
        file.write(given.clips["mp4"][:1000])
        file.truncate(1 << 40)


def linked(target: str) -> Maker:
    return lambda path, given, rng: path.symlink_to(target.format(secret=given.secret, name=path.name))


for _name, _target in {
    "link_out": "{secret}",
    "link_up": "../../outside/secret.mp4",
    "link_to_device": "/dev/zero",
    "link_to_memory": "/proc/self/mem",
    "link_to_itself": "{name}",
    "link_to_nothing": "nowhere.mp4",
}.items():
    add(_name, "failed", linked(_target))


# ---- fuzzed real clips, in each container

MAGIC = {
    "avi": b"RIFF\0\0\0\0AVI ",
    "mkv": b"\x1aE\xdf\xa3",
    "gif": b"GIF89a",
    "mpg": b"\0\0\1\xba",
    "flv": b"FLV\1",
}
CONTAINERS = ("mp4", "webm", "mkv", "avi", "mpg", "ts", "flv", "gif", "wmv", "ogv")


def flipped(data: bytes, rng: Rng) -> bytes:
    """A few bits in a thousand bytes, or a few in all; half of the files only in their first 4 kB."""
    broken = np.frombuffer(data, np.uint8).copy()
    reach = min(len(broken), 4096) if rng.random() < 0.5 else len(broken)
    at = rng.integers(0, reach, max(1, int(reach * 10.0 ** rng.uniform(-5, -2))))
    broken[at] ^= (1 << rng.integers(0, 8, len(at))).astype(np.uint8)
    return broken.tobytes()


def cut(data: bytes, rng: Rng) -> bytes:
    return data[: int(len(data) * rng.uniform(0.005, 0.97))]


def holed(data: bytes, rng: Rng) -> bytes:
    """Without a piece of the middle, or with a piece zeroed or in another place."""
    a, b = sorted(int(x) for x in rng.integers(64, len(data), 2))
    return data[:a] + [b"", bytes(b - a), data[a:b] * 2][rng.integers(3)] + data[b:]


def wrong_header(data: bytes, rng: Rng) -> bytes:
    """With the first bytes of another container."""
    magic = list(MAGIC.values())[rng.integers(len(MAGIC))]
    return magic + data[len(magic) :]


def fields_filled(data: bytes, rng: Rng) -> bytes:
    """With extreme numbers in 4 bytes at a time of the first and last kilobytes, where headers lie."""
    broken = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        at = int(rng.integers(0, min(2000, len(data) - 4)))
        at = at if rng.random() < 0.5 else len(data) - 4 - at
        broken[at : at + 4] = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0"][rng.integers(4)]
    return bytes(broken)


def fuzzing(damage: Callable[[bytes, Rng], bytes], container: str) -> Maker:
    return lambda path, given, rng: path.write_bytes(damage(given.clips[container], rng))


for _damage in (flipped, cut, holed, wrong_header, fields_filled):
    for _container in CONTAINERS:
        _make = fuzzing(_damage, _container)
        add(f"{_damage.__name__}_{_container}", "either", _make, _container, fuzzed=True)


# ---- odd, but a player shows them


def encoded(repeat: int = 1, **settings: Any) -> Maker:
    return lambda path, given, rng: encode(path, np.repeat(given.drawn(rng), repeat, axis=0), **settings)


HDR = {"x265-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none"}
HEVC: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=none"}}
LACED = {"flags": "+ildct+ilme", "top": "1"}
JITTER = np.cumsum([0, *([20, 150, 90, 61] * 6)])[:24]
_settings: dict[str, Any]
for _name, _suffix, _settings in (
    ("ten_bit", "mp4", {"pix_fmt": "yuv420p10le"}),
    ("twelve_bit", "mp4", HEVC | {"pix_fmt": "yuv420p12le"}),
    ("hdr_pq_bt2020", "mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": HDR}),
    ("chroma_444", "mp4", {"pix_fmt": "yuv444p"}),
    ("grey", "mp4", {"pix_fmt": "gray"}),
    ("full_range", "mp4", {"pix_fmt": "yuvj420p"}),
    ("interlaced", "mpg", {"codec": "mpeg2video", "rate": 25, "options": LACED, "repeat": 2}),
    ("prores_alpha", "mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le"}),
    ("lossless_ffv1", "mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
    ("raw_video", "avi", {"codec": "rawvideo", "pix_fmt": "bgr24"}),
    ("av1", "mp4", {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "lp=1"}}),
    ("flv1", "flv", {"codec": "flv"}),
    ("wmv2", "wmv", {"codec": "wmv2"}),
    ("hevc_in_ts", "ts", HEVC),
    ("varying_rate", "mp4", {"times": JITTER}),
    ("quarter_turn", "mp4", {"rotation": 90}),
    ("turn_by_45_degrees", "mp4", {"rotation": 45}),
    ("pixels_1000_to_1", "mp4", {"aspect": Fraction(1000, 1)}),
    ("pixels_1_to_1000", "mp4", {"aspect": Fraction(1, 1000)}),
    ("longer_sound", "mp4", {"audio": True}),
    ("live_mkv", "mkv", {"container": {"live": "1"}}),
    ("fragmented_mp4", "mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    ("fast_start", "mp4", {"container": {"movflags": "+faststart"}}),
    ("half_a_frame_a_second", "mp4", {"rate": Fraction(1, 2)}),
):
    add(_name, "usable", encoded(**_settings), _suffix)


@kind("usable", "webm")
def alpha_vp9(path: Path, given: Given, rng: Rng) -> object:
    frames = given.drawn(rng)
    image = np.concatenate([frames, frames[..., :1]], axis=3)
    return encode(path, image, codec="libvpx-vp9", pix_fmt="yuva420p")


def sized(height: int, width: int, **settings: Any) -> Maker:
    def make(path: Path, given: Given, rng: Rng) -> object:
        frames = given.drawn(rng)
        rows = np.arange(height) % frames.shape[1]
        columns = np.arange(width) % frames.shape[2]
        return encode(path, frames[:, rows][:, :, columns], **settings)

    return make


MJPEG: dict[str, Any] = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
FFV1: dict[str, Any] = {"codec": "ffv1", "pix_fmt": "bgr0"}
add("odd_size", "usable", sized(47, 79, **MJPEG), "avi")
add("one_pixel", "usable", sized(1, 1, **FFV1), "mkv")
add("one_row", "usable", sized(1, 600, **FFV1), "mkv")
add("16k_wide", "usable", sized(16, 16384, **MJPEG), "avi")
add("16k_high", "usable", sized(16384, 16, **MJPEG), "avi")
add("50k_wide", "failed", sized(2, 50_000, **FFV1), "mkv")
