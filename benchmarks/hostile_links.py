"""Kinds of hostile files that lead out of the folder, by what they hold, how they are called or captioned."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

from benchmarks.hostile_boxes import HOLDERS, HUGE, boxes
from benchmarks.hostile_kinds import Given, Maker, Rng, add, kind
from testing.made_clips import encode

# ---- ways out of the folder


def leading_out(text: str) -> Maker:
    def make(path: Path, given: Given, rng: Rng) -> object:
        up = "../../outside/secret.mp4"  # of pool/KIND/
        return path.write_text(
            text.format(secret=given.secret, url=f"{given.url}/{path.name}", up=up, n=rng.integers(1 << 30))
        )

    return make


M3U = "#EXTM3U\n#EXT-X-VERSION:{n}\n#EXT-X-TARGETDURATION:9\n"
OUT = (
    "{secret}",
    "{up}",
    "file:{secret}",
    "{url}",
    "concat:{secret}|{secret}",
    "subfile,,start,0,end,0,,:{secret}",
)
HLS = "".join(f"#EXTINF:9,\n{target}\n" for target in OUT) + "#EXT-X-ENDLIST\n"
NESTED = "#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n#EXT-X-STREAM-INF:BANDWIDTH=2\n{secret}\n"
MPD = """<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' minBufferTime='PT{n}S'><Period>
<AdaptationSet><Representation id='1' bandwidth='1'><BaseURL>{url}</BaseURL></Representation></AdaptationSet>
</Period></MPD>"""
SVG = "<svg xmlns='http://www.w3.org/2000/svg' id='a{n}'><image href='{url}'/><image href='{secret}'/></svg>"
SDP = "v=0\no=- {n} 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
for _suffix in ("mp4", "ts", "avi", "gif"):
    add(f"playlist_{_suffix}", "failed", leading_out(M3U + HLS), _suffix)
for _name, _text in {
    "playlist_of_playlists": M3U + NESTED,
    "playlist_with_key": M3U + '#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXT-X-MAP:URI="{secret}"\n' + HLS,
    "concat_list": "ffconcat version 1.0\n# {n}\nfile '{secret}'\nfile {url}\nfile {up}\n",
    "dash_manifest": MPD,
    "svg_image": SVG,
    "session_description": SDP + "a=rtpmap:96 H264/90000\n",
    "windows_playlist": "<asx><entry><ref href='{url}'/><ref href='{secret}'/></entry><!--{n}--></asx>",
    "quicktime_link": "RTSPtext\n{url}\n{n}",
    "list_of_images": "{secret}\n{url}\n{n}\n",
    "avisynth_script": 'FFVideoSource("{secret}") # {n} {url}\n',
}.items():
    add(_name, "failed", leading_out(_text))


def referring(entry: Callable[[Given], bytes]) -> Maker:
    """A clip whose samples lie, it says, in another file."""

    def make(path: Path, given: Given, rng: Rng) -> None:
        data = encode(path, given.drawn(rng)).read_bytes()
        path.write_bytes(with_references(data, bytes(4) + struct.pack(">I", 1) + entry(given)))

    return make


def with_references(data: bytes, content: bytes) -> bytes:
    """An mp4 with another content of its `dref` box; the boxes around it grow as much."""
    begin, end = next((begin, end) for name, begin, end in boxes(data) if name == b"dref")
    grown = bytearray(data)
    for name, start, stop in boxes(data):
        if name in {b"dref", *HOLDERS} and start <= begin and end <= stop:
            struct.pack_into(">I", grown, start - 8, stop - start + 8 + len(content) - (end - begin))
    return bytes(grown[:begin] + content + grown[end:])


def url_entry(target: str) -> bytes:
    return struct.pack(">I4sI", 13 + len(target), b"url ", 0) + target.encode() + b"\0"


def alias_entry(target: str) -> bytes:
    """As QuickTime names a file: by volume and folder numbers, and by its absolute path."""
    name = Path(target).name.encode()
    text = bytes(10) + bytes([1]) + b"v" + bytes(26) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    text += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    text += struct.pack(">HH", 2, len(target)) + target.encode() + bytes(len(target) % 2) + HUGE
    return struct.pack(">I4sI", 12 + len(text), b"alis", 0) + text


add("samples_in_a_linked_file", "either", referring(lambda given: url_entry(f"file://{given.secret}")), "mov")
add("samples_on_a_server", "either", referring(lambda given: url_entry(given.url)), "mov")
add("samples_in_an_alias", "either", referring(lambda given: alias_entry(str(given.secret))), "mov")


@kind("either", "avi")
def subtitles_that_are_a_playlist(path: Path, given: Given, rng: Rng) -> None:
    """An AVI with a stream of GAB2 subtitles, which FFmpeg opens with any demuxer: here a playlist."""
    targets = (given.url, f"file://{given.secret}")
    entries = "".join(f"#EXTINF:9,\n{target}\n" for target in targets)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n{entries}#EXT-X-ENDLIST\n".encode()
    gab2 = b"GAB2\0" + struct.pack("<HI", 2, 2) + b"x\0" + struct.pack("<HI", 4, len(playlist)) + playlist
    data = with_text_stream(encode(path, given.drawn(rng), codec="mpeg4").read_bytes())
    movi = data.index(b"movi") + 4
    chunk = b"01tx" + struct.pack("<I", len(gab2)) + gab2 + bytes(len(gab2) % 2)
    path.write_bytes(data[:movi] + chunk + data[movi:])


def with_text_stream(data: bytes) -> bytes:
    """An AVI whose header declares a second stream, of text."""
    strh = b"strh" + struct.pack("<I4s", 56, b"txts") + bytes(16) + struct.pack("<II", 1, 1) + bytes(28)
    strl = b"LIST" + struct.pack("<I", 4 + len(strh) + 8) + b"strl" + strh + b"strf" + bytes(4)
    header = data.index(b"hdrl") - 8
    size = struct.unpack_from("<I", data, header + 4)[0]
    end = header + 8 + size
    changed = bytearray(data[:end] + strl + data[end:])
    struct.pack_into("<I", changed, header + 4, size + len(strl))
    changed[changed.index(b"avih") + 32] = 2  # streams
    return bytes(changed)


# ---- odd names of good clips


def named(name: str) -> Maker:
    def make(path: Path, given: Given, rng: Rng) -> None:
        encode(path, given.drawn(rng))
        path.rename(path.with_name(name))

    return make


for _name, _file in {
    "name_of_an_option": "-i.mp4",
    "name_of_a_protocol": "concat:a.mp4|b.mp4",
    "name_of_a_part": "subfile,,start,0,end,9,,:a.mp4",
    "name_of_a_pattern": "%d %s {0} $HOME `id` *.mp4",
    "name_with_a_line_break": "a\nb\r.mp4",
    "name_with_escapes": "\x1b[2J\x1b]0;gone\x07.mp4",
    "name_right_to_left": "\u202e4pm.mp4",
    "name_of_250_bytes": "映" * 82 + ".mp4",
}.items():
    add(_name, "usable", named(_file))
add("name_of_255_bytes_no_caption", "failed", named("x" * 252 + ".ts"))
add("name_of_broken_bytes", "failed", named("\udcff\udcfe.mp4"))


def captioned(write: Callable[[Path, Given], object]) -> Maker:
    def make(path: Path, given: Given, rng: Rng) -> None:
        encode(path, given.drawn(rng))
        write(path.with_suffix(".txt"), given)

    return make


add("caption_links_out", "usable", captioned(lambda text, given: text.symlink_to(given.secret)))
add("caption_links_to_device", "usable", captioned(lambda text, given: text.symlink_to("/dev/zero")))
add(
    "caption_of_a_terabyte",
    "failed",
    captioned(lambda text, given: text.touch() or os.truncate(text, 1 << 40)),
)
add("caption_of_binary", "either", captioned(lambda text, given: text.write_bytes(bytes(range(256)))))
