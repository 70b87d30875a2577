"""Kinds of hostile files that need surgery: strange times, payloads and boxes that lie."""

import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.hostile_kinds import MJPEG, PNG, Given, Maker, Rng, add, kind
from testing.made_clips import encode, mux_silence

# ---- strange times and numbers of frames


def packet_of(payload: bytes, stream: Any, time: int, time_base: Fraction) -> av.Packet:
    """A key frame shown at a time, in units of `time_base` seconds."""
    packet = av.Packet(payload)
    packet.stream = stream
    packet.time_base = time_base
    packet.is_keyframe = True
    packet.pts = packet.dts = time
    return packet


def timed(times: Callable[[int], int], count: int = 24, copies: int = 1) -> Maker:
    """Packets of a clip at other times (milliseconds, by number), `copies` times one after another."""

    def make(path: Path, given: Given, rng: Rng) -> None:
        source = path.with_suffix(".part.mkv")
        encode(source, given.drawn(rng)[:count], **MJPEG)
        with av.open(str(source)) as read, av.open(str(path), "w") as write:
            stream = write.add_stream_from_template(read.streams.video[0])
            payloads = [bytes(packet) for packet in read.demux() if packet.size]
            for number, payload in enumerate(payloads * copies):
                write.mux(packet_of(payload, stream, times(number), Fraction(1, 1000)))
        source.unlink()

    return make


add("one_frame", "failed", timed(lambda n: 0, count=1), "mkv")
add("two_frames", "failed", timed(lambda n: 80 * n, count=2), "mkv")
add("two_frames_far_apart", "either", timed(lambda n: 60_000 * n, count=2), "mkv")
add("all_at_one_moment", "failed", timed(lambda n: 5), "mkv")
add("a_thousand_frames_a_second", "failed", timed(lambda n: n), "mkv")
add("negative_times", "usable", timed(lambda n: 80 * n - 400), "mkv")
add("starts_after_a_day", "usable", timed(lambda n: 80 * n + 86_400_000), "mkv")
add("a_day_in_the_middle", "either", timed(lambda n: 80 * n + 86_400_000 * (n > 12)), "mkv")
add("lasts_a_week", "failed", timed(lambda n: 26_000_000 * n), "mkv")
add("30k_frames", "usable", timed(lambda n: 80 * n, copies=1250), "mkv")
add("200k_frames_at_one_moment", "failed", timed(lambda n: 5, copies=8334), "mkv")


# ---- sound, covers, several streams


@kind("failed")
def only_sound(path: Path, given: Given, rng: Rng) -> None:
    with av.open(str(path), "w") as container:
        mux_silence(container, container.add_stream("aac", rate=16000), seconds=int(rng.integers(1, 9)))


@kind("usable", "mkv")
def two_videos(path: Path, given: Given, rng: Rng) -> None:
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("mpeg4", rate=12) for _ in "ab"]
        for step, stream in enumerate(streams, 1):  # the second has every other pixel
            stream.height = 48 // step
            stream.width = 80 // step
            stream.pix_fmt = "yuv420p"
        for frame in given.drawn(rng):
            for step, stream in enumerate(streams, 1):
                image = np.ascontiguousarray(frame[::step, ::step])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))


def joined(*sizes: tuple[int, int], suffix: str = "ts", **settings: Any) -> Maker:
    """Clips of several sizes as one stream, as a change of resolution."""

    def make(path: Path, given: Given, rng: Rng) -> None:
        data = b""
        for height, width in sizes:
            frames = given.drawn(rng)[:, :height, :width]
            clip = encode(path.with_suffix(f".part.{suffix}"), np.ascontiguousarray(frames), **settings)
            data += clip.read_bytes()
            clip.unlink()
        path.write_bytes(data)

    return make


add("changes_its_size", "either", joined((48, 80), (32, 48), (16, 16)), "ts")
add("two_mp4_in_one", "usable", joined((48, 80), (48, 80), suffix="mp4"))
add("two_avi_in_one", "either", joined((48, 80), (32, 32), suffix="avi", codec="mpeg4"), "avi")


@kind("failed")
def raw_h264(path: Path, given: Given, rng: Rng) -> None:
    encode(path.with_suffix(".h264"), given.drawn(rng)).rename(path)


# ---- payloads that lie in an honest container


def exp_golomb(*numbers: int) -> str:
    return "".join("0" * (len(f"{n + 1:b}") - 1) + f"{n + 1:b}" for n in numbers)


def sps(width_mbs: int, height_mbs: int, references: int) -> bytes:
    """An H.264 sequence header that claims a size in macroblocks and a number of reference frames."""
    bits = exp_golomb(0, 0, 2, references) + "0" + exp_golomb(width_mbs - 1, height_mbs - 1) + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    return b"\0\0\0\1\x67\x42\0\x3e" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def muxed(codec: str, payload: bytes, count: int = 24, size: tuple[int, int] = (48, 80)) -> Maker:
    """A container of `count` packets with this payload, said to be of a codec and (height, width)."""

    def make(path: Path, given: Given, rng: Rng) -> None:
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=12)
            stream.height, stream.width = size
            stream.pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            for number in range(count):
                container.mux(packet_of(payload + rng.bytes(2), stream, number, Fraction(1, 12)))

    return make


def png_of(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(bytes(min(height * (width + 1), 64_000_000)), 1)
    return (
        PNG
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


SLICE = b"\0\0\0\1\x68\xce\x3c\x80\0\0\0\1\x65\x88\x84" + bytes(64)
add("h264_of_16k_squared", "failed", muxed("libx264", sps(1024, 1024, 1) + SLICE), "ts")
add("h264_of_8k_16_references", "either", muxed("libx264", sps(480, 270, 16) + SLICE), "ts")
add("h264_of_a_million_wide", "failed", muxed("libx264", sps(65536, 1, 1) + SLICE), "ts")
add("h264_of_nothing", "failed", muxed("libx264", b"\0\0\0\1\x65\x88\x84" + bytes(64)), "ts")
add("h264_of_zero_headers", "failed", muxed("libx264", b"\0\0\0\1\x67\0\0\0\0\0\0\1\x68\0" + SLICE), "ts")
add("png_bomb_16k", "failed", muxed("png", png_of(16_384, 16_384), count=3), "mov")
add("png_bomb_in_limits", "either", muxed("png", png_of(8000, 4000), count=16), "mov")
add("png_of_zero_size", "failed", muxed("png", png_of(0, 0)), "mov")
add(
    "jpeg_of_65535_squared",
    "failed",
    muxed("mjpeg", bytes.fromhex("ffd8ffc00011 08 ffff ffff 03011100021101031101".replace(" ", ""))),
    "avi",
)
add("300k_tiny_packets", "failed", muxed("mpeg4", b"\0", count=300_000), "avi")


@kind("either", "ts", fuzzed=True)
def scrambled_ts(path: Path, given: Given, rng: Rng) -> object:
    """Packets in another order, and some said to be encrypted."""
    data = given.clips["ts"]
    packets = np.frombuffer(data, np.uint8)[: len(data) // 188 * 188].reshape(-1, 188).copy()
    packets[rng.integers(0, len(packets), len(packets) // 4), 3] |= 0xC0
    return path.write_bytes(packets[rng.permutation(len(packets))].tobytes())


# ---- mp4 boxes that lie

HOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts"}


def boxes(
    data: bytes | bytearray, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content begins, where it ends) of all boxes, depth first."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        yield name, start + 8, start + size
        if name in HOLDERS:
            yield from boxes(data, start + 8, start + size)
        start += max(size, 8)


def lying(name: bytes, at: int, value: bytes) -> Maker:
    """A clip with these bytes at an offset of the content of its first box of that name."""

    def make(path: Path, given: Given, rng: Rng) -> None:
        data = bytearray(encode(path, given.drawn(rng), container={"use_editlist": "1"}).read_bytes())
        begin = next(begin for box, begin, _ in boxes(data) if box == name)
        data[begin + at : begin + at + len(value)] = value
        path.write_bytes(data)

    return make


HUGE = b"\xff" * 4
ZERO = bytes(4)
for _name, _expected, _box, _at, _value in (
    ("no_moov", "failed", b"moov", -4, b"junk"),
    ("no_video_handler", "failed", b"hdlr", 8, b"soun"),
    ("zero_frames_a_second", "failed", b"stts", 12, ZERO),
    ("huge_frame_lengths", "failed", b"stts", 12, b"\x7f\xff\xff\xff"),
    ("huge_count_of_times", "either", b"stts", 4, HUGE),
    ("huge_count_of_frames", "failed", b"stsz", 8, HUGE),
    ("huge_sizes_of_frames", "failed", b"stsz", 12, b"\x7f\xff\xff\xff" * 24),
    ("zero_sizes_of_frames", "failed", b"stsz", 12, ZERO * 24),
    ("huge_count_of_chunks", "either", b"stco", 4, HUGE),
    ("chunks_behind_the_end", "failed", b"stco", 8, b"\x7f\xff\xff\xff"),
    ("huge_chunk_runs", "either", b"stsc", 8, HUGE * 3),
    ("timescale_zero", "either", b"mdhd", 12, ZERO),
    ("timescale_huge", "either", b"mdhd", 12, b"\x7f\xff\xff\xff"),
    ("lasts_for_ever", "either", b"mvhd", 16, HUGE),
    ("its_video_lasts_for_ever", "either", b"mdhd", 16, HUGE),
    ("shown_size_zero", "either", b"tkhd", 76, bytes(8)),
    ("shown_size_huge", "either", b"tkhd", 76, HUGE * 2),
    ("declared_65535_squared", "either", b"stsd", 40, HUGE),
    ("encrypted", "failed", b"stsd", 12, b"encv"),
    ("unknown_codec", "failed", b"stsd", 12, b"zzzz"),
    ("another_codec", "failed", b"stsd", 12, b"hvc1"),
    ("edit_list_cuts_all", "failed", b"elst", 8, ZERO + b"\0\xff\xff\xff"),
    ("edit_list_of_ages", "either", b"elst", 8, b"\x7f\xff\xff\xff"),
    ("edit_list_negative", "either", b"elst", 12, b"\x80\0\0\0"),
    ("negative_offsets", "either", b"ctts", 12, b"\x80\0\0\0"),
    ("zeroed_data", "failed", b"mdat", 0, bytes(3000)),
):
    add(_name, _expected, lying(_box, _at, _value))  # type: ignore[arg-type]
