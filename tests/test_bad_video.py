"""Laws of what is no clip: refused for a precise reason, and never with another error."""

from pathlib import Path

import av
import numpy as np
import pytest

from motive.video.reading import BadClip, probe, read_frames
from testing.made_clips import encode, mux_silence
from testing.real_clips import real_clip

pytestmark = pytest.mark.slow


def reason(path: Path, **options) -> str:
    """Why it is refused, which begins with the words of its kind."""
    with pytest.raises(BadClip) as error:
        probe(path, **options)
    words = error.value.kind.replace("_", " ").replace("no motion", "one frame")
    assert error.value.reason.startswith(words)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "zero bytes"),
        (b"this is no video\n" * 100, "not a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a video"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>", "not a video"),
        (bytes(1000), "not a video"),
    ],
    ids=["empty", "text", "png", "hls", "concat", "dash", "zeros"],
)
def test_what_is_no_video_is_refused(tmp_path, content, complaint):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert reason(path) == complaint


def test_one_frame_is_no_clip(tmp_path, bikes):
    assert reason(encode(tmp_path / "one.mp4", bikes[:1])).startswith("one frame")
    assert reason(encode(tmp_path / "one.gif", bikes[:1], codec="gif", pix_fmt="rgb8")).startswith(
        "one frame"
    )


def test_sound_alone_is_no_clip(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        mux_silence(container, container.add_stream("aac", rate=16000), seconds=1)
    assert reason(path) == "no video stream: audio inside"


@pytest.mark.parametrize("name", ["bikes.mp4", "walker.mp4", "globe.avi"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_truncated_clip_is_refused(tmp_path, name, share):
    content = real_clip(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(share * len(content))])
    assert reason(path).startswith(("truncated", "damaged"))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_clip_truncated_behind_its_index_is_refused(tmp_path, bikes, suffix):
    settings = {"webm": {"codec": "libvpx-vp9"}, "mp4": {"options": {"movflags": "+faststart"}}}
    path = encode(tmp_path / f"clip.{suffix}", bikes, **settings.get(suffix, {}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path).startswith(("truncated", "damaged"))


def test_a_late_start_is_no_truncation(tmp_path, bikes):
    times = 3_600_000 + 80 * np.arange(24)
    path = encode(tmp_path / "late.mkv", bikes, codec="mjpeg", pix_fmt="yuvj420p", times=times)
    assert probe(path).num_frames == 24
    assert read_frames(path, 17, 12.0, 32, 32, "window").shape == (17, 32, 32, 3)


def test_a_gap_in_an_avi_is_no_truncation(tmp_path, bikes):
    times = np.cumsum([0, *([83] * 11), 1000, *([83] * 11)])
    path = encode(tmp_path / "gap.avi", bikes, codec="mpeg4", times=times)
    assert probe(path).num_frames == 24
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert reason(path).startswith("truncated")


def test_an_absurd_size_is_refused_before_it_is_decoded(tmp_path):
    path = encode(
        tmp_path / "large.mp4", np.zeros((4, 1080, 1920, 3), np.uint8), options={"preset": "ultrafast"}
    )
    complaint = "absurd size: 1080 x 1920 pixels, clips.max_pixels is 1000000"
    assert reason(path, max_pixels=1_000_000) == complaint
    with pytest.raises(BadClip, match="absurd size"):
        read_frames(path, 2, 8.0, 8, 8, "window", max_pixels=1_000_000)
    assert probe(path, max_pixels=1920 * 1088).height == 1080


def test_a_size_that_its_header_hides_is_refused_too(tmp_path):
    large = encode(
        tmp_path / "large.mkv", np.zeros((4, 256, 256, 3), np.uint8), codec="mjpeg", pix_fmt="yuvj420p"
    )
    content = large.read_bytes()
    for code in (b"\xb0\x82\x01\x00", b"\xba\x82\x01\x00"):  # PixelWidth, PixelHeight: 256
        assert code in content
        content = content.replace(code, code[:2] + b"\x00\x10")
    large.write_bytes(content)
    with pytest.raises(BadClip, match=r"absurd size|damaged"):
        read_frames(large, 2, 8.0, 8, 8, "window", max_pixels=10_000)


def test_too_short_says_how_long_it_is_and_must_be(tmp_path, bikes):
    path = encode(tmp_path / "short.mp4", bikes[:10])
    with pytest.raises(BadClip, match=r"^too short: 0\.83 s, needs 1\.33 s$"):
        read_frames(path, 17, 12.0, 32, 32, "window")
    assert len(read_frames(path, 11, 12.0, 32, 32, "window")) == 11  # the last frame stays for its length
    with pytest.raises(BadClip):
        read_frames(path, 12, 12.0, 32, 32, "window")


def test_damage_inside_the_window_is_refused_or_read_but_never_another_error(tmp_path, bikes):
    path = encode(tmp_path / "clip.webm", bikes, codec="libvpx-vp9")
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    outcomes = []
    for _ in range(40):
        broken = bytearray(content)
        at = draw.integers(0, len(broken) - 64)
        broken[at : at + 64] = draw.bytes(64)
        path.write_bytes(broken)
        try:
            probe(path)
            outcomes.append(read_frames(path, 17, 12.0, 32, 32, "window").shape)
        except BadClip as bad:
            outcomes.append(str(bad))
    assert any(isinstance(outcome, str) for outcome in outcomes)
