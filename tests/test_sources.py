"""Laws of reading a folder: all layouts say the same, and what is wrong with a row stays with the row."""

import csv
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from motive.clips.sources import Entry, Source, one_line, read_source

ROWS = [
    ("a.mp4", 'a ball, that "bounces"', "bounce"),
    ("deep/b.MOV", "ein Kreis, größer", ""),
    ("c.gif", "third", "spin"),
]
ENTRIES = [Entry(*row) for row in sorted(ROWS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for file, _, _ in ROWS:
        (tmp_path / file).write_bytes(b"video")
    return tmp_path


def jsonl(folder: Path, *lines: object) -> Source:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return read_source(folder)


def write_jsonl(folder: Path, files: str, captions: str) -> None:
    jsonl(folder, *({files: file, captions: caption, "motion": motion} for file, caption, motion in ROWS))


def write_csv(folder: Path, files: str, captions: str) -> None:
    with (folder / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:  # as Excel writes it
        csv.writer(file).writerows([(files, captions, "motion"), *ROWS])


def write_parquet(folder: Path, files: str, captions: str) -> None:
    pd.DataFrame(ROWS, columns=[files, captions, "motion"]).to_parquet(folder / "metadata.parquet")


def write_json(folder: Path, files: str, captions: str) -> None:
    rows = [{files: file, captions: caption, "motion": motion} for file, caption, motion in ROWS]
    (folder / "anything.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet, write_json])
@pytest.mark.parametrize(
    ("files", "captions"),
    [
        ("file_name", "caption"),
        ("file_path", "text"),
        ("path", "prompt"),
        ("video_path", "cap"),
        ("video", "text"),
    ],
)
def test_the_metadata_layouts_say_the_same(folder, write, files, captions):
    write(folder, files, captions)
    source = read_source(folder)
    assert (source.entries, source.failures, source.num_ignored) == (ENTRIES, [], 0)


@pytest.mark.parametrize("prompts", ["prompts.txt", "captions.txt"])
def test_line_n_belongs_to_line_n(folder, prompts):
    (folder / "videos.txt").write_text("".join(f"{file}\r\n" for file, _, _ in ROWS))
    (folder / prompts).write_text("\n".join(caption for _, caption, _ in ROWS), encoding="utf-8")
    assert read_source(folder).entries == [Entry(entry.file, entry.caption) for entry in ENTRIES]


def test_more_captions_than_videos_is_an_error_since_any_may_be_off(folder):
    (folder / "videos.txt").write_text("a.mp4\nc.gif")
    (folder / "prompts.txt").write_text("one\ntwo\nthree")
    with pytest.raises(ValueError, match=r"videos.txt has 2 lines, prompts.txt has 3"):
        read_source(folder)


def test_a_caption_may_stand_beside_its_file_or_be_missing(folder):
    (folder / "a.txt").write_text(" first\n")
    (folder / "deep" / "b.txt").write_text("\n")
    (folder / "notes.md").write_text("no clip")
    (folder / ".hidden.mp4").write_bytes(b"")
    captions = {entry.file: entry.caption for entry in read_source(folder).entries}
    assert captions == {"a.mp4": "first", "c.gif": None, "deep/b.MOV": None}


def test_files_that_the_metadata_does_not_mention_are_counted(folder, caplog):
    source = jsonl(folder, {"file_name": "a.mp4", "text": "first"})
    assert source.num_ignored == 2
    assert "2 video files" in caplog.text


@pytest.mark.parametrize(
    "file", ["../out.mp4", "/etc/passwd", "deep/../../out.mp4", "link.mp4", "linked/out.mp4", "a\0.mp4"]
)
def test_no_path_leaves_the_folder(folder, tmp_path_factory, file):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "out.mp4").write_bytes(b"secret")
    (folder.parent / "out.mp4").write_bytes(b"secret")
    (folder / "link.mp4").symlink_to(outside / "out.mp4")
    (folder / "linked").symlink_to(outside)
    source = jsonl(folder, {"file_name": file, "caption": "x"}, {"file_name": "a.mp4", "caption": "first"})
    assert source.entries == [Entry("a.mp4", "first")]
    [failure] = source.failures
    assert (failure.file, failure.kind) == ("metadata.jsonl line 1", "outside")
    assert "leaves the folder" in failure.reason


def test_plain_links_out_of_the_folder_are_failures_and_links_within_are_not(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("secret")
    (folder / "out.mp4").symlink_to(outside)
    (folder / "a.txt").symlink_to(outside)  # a caption must not leak it either
    (folder / "within.mp4").symlink_to(folder / "a.mp4")
    source = read_source(folder)
    assert [(failure.file, failure.kind) for failure in source.failures] == [("out.mp4", "outside")]
    assert Entry("within.mp4", None) in source.entries
    assert Entry("a.mp4", None) in source.entries


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        ('{"file_name": "a.mp4"', "bad_row", "no JSON"),
        ("[1, 2]", "bad_row", "no mapping but a list"),
        ("null", "bad_row", "no mapping but a NoneType"),
        ('{"caption": "x"}', "bad_row", "names no file"),
        ('{"file_name": "", "caption": "x"}', "bad_row", "names no file"),
        ('{"file_name": 3}', "bad_row", "file_name is 3, no text"),
        ('{"file_name": "a.mp4", "caption": ["x"]}', "bad_row", "caption is ['x'], no text"),
        ('{"file_name": "none.mp4"}', "no_file", "none.mp4 is missing"),
        ('{"file_name": "deep"}', "no_file", "deep is a folder"),
        ('{"file_name": "./c.gif"}', "repeated", "c.gif again: first in metadata.jsonl line 1"),
        ('{"file_name": "a.mp4", "caption": "\\ud800"}', "bad_row", "no valid text"),
        ("[" * 100_000, "bad_row", "no JSON"),
        (
            '{"file_name": "a.mp4", "caption": "' + "x" * 65537 + '"}',
            "bad_row",
            "caption has more than 65536",
        ),
        ('{"file_name": "file:a.mp4"}', "no_file", "file:a.mp4 is missing"),
        ('{"file_name": "concat:a.mp4|c.gif"}', "no_file", "is missing"),
        ('{"file_name": "http://127.0.0.1/a.mp4"}', "no_file", "is missing"),
        ('{"file_name": "/dev/zero"}', "outside", "leaves the folder"),
        ('{"file_name": "a.mp4\\u0000"}', "outside", "leaves the folder"),
        ('{"file_name": "' + "x" * 5000 + '"}', "no_access", "can't be read: File name too long"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_wrong_with_a_row_stays_with_the_row(folder, line, kind, reason):
    source = jsonl(folder, {"file_name": "c.gif", "caption": "third"}, "", line, {"file_name": "deep/b.MOV"})
    assert source.entries == [Entry("c.gif", "third"), Entry("deep/b.MOV", None)]
    [failure] = source.failures
    assert (failure.file, failure.kind) == ("metadata.jsonl line 3", kind)
    assert reason in failure.reason


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: os.mkfifo(path), "is no regular file but a pipe, socket or device"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file but a pipe, socket or device"),
        (lambda path: path.symlink_to(path.name), "is a link to nothing"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    ],
    ids=["pipe", "device", "loop", "dangling"],
)
def test_what_could_be_read_for_ever_is_not_opened(folder, make, reason):
    make(folder / "z.mp4")
    make(folder / "a.txt")  # nor a caption
    source = read_source(folder)
    assert source.failures == [("z.mp4", "no_file", f"z.mp4 {reason}")]
    assert Entry("a.mp4", None) in source.entries


def test_a_caption_as_long_as_a_disk_is_not_read(folder):
    with (folder / "a.txt").open("wb") as file:
        file.truncate(1 << 40)
    assert read_source(folder).failures == [("a.mp4", "bad_row", "caption has more than 65536 characters")]


def test_the_longest_name_has_no_room_for_a_caption(folder):
    name = "x" * 252 + ".ts"
    (folder / name).touch()
    assert read_source(folder).failures == [
        (name, "no_access", f"its caption {'x' * 252}.txt can't be read: File name too long")
    ]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "videos.txt", "list.json"])
def test_metadata_outside_is_not_read(folder, tmp_path_factory, name):
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text("a secret")
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is a link that leaves the folder") as error:
        read_source(folder)
    assert "a secret" not in str(error.value)


@pytest.mark.parametrize("text", ["line\nbreak", "\x1b[2Jgone", "\udcff", "\u202eback"])
def test_a_terminal_is_given_one_plain_line(text):
    assert one_line(text).isprintable()
    assert one_line("plain: ü, 映画") == "plain: ü, 映画"


def test_broken_bytes_and_broken_csv_rows_are_failures(folder):
    rows = b'file_name,caption\na.mp4,first\nc.gif,third,extra\nc\xff.gif,x\n\ndeep/b.MOV,"x"y\nc.gif,third\n'
    (folder / "metadata.csv").write_bytes(rows)
    source = read_source(folder)
    assert [entry.file for entry in source.entries] == ["a.mp4", "c.gif"]
    wrong = [(failure.file, failure.kind) for failure in source.failures]
    lines = {3: "bad_row", 4: "no_file", 6: "bad_row"}
    assert wrong == [(f"metadata.csv line {number}", kind) for number, kind in lines.items()]
    assert "3 fields, the header has 2" in source.failures[0].reason


def test_empty_cells_are_no_captions(folder):
    table = pd.DataFrame({"file_name": ["a.mp4", "c.gif"], "caption": [None, float("nan")]}, dtype="object")
    table.to_parquet(folder / "metadata.parquet")
    assert [entry.caption for entry in read_source(folder).entries] == [None, None]


def test_a_name_of_any_bytes_is_a_failure_that_can_be_printed(folder):
    os.close(os.open(os.fsencode(folder) + b"/\xff.mp4", os.O_CREAT))
    [failure] = read_source(folder).failures
    assert (failure.file, failure.kind) == ("\\udcff.mp4", "bad_row")
    assert "no valid text" in failure.reason


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no clips"),
        ({"notes.txt": "x"}, "has no clips"),
        ({"metadata.jsonl": "", "a.mp4": ""}, "has no clips"),
        ({"metadata.jsonl": "", "metadata.csv": ""}, "keep one"),
        ({"metadata.csv": "name,caption\n"}, "none is one of file_name"),
        ({"metadata.csv": ""}, "none is one of file_name"),
        ({"metadata.parquet": "text"}, "no readable Parquet"),
        ({"x.json": "{}"}, "no list of clips"),
        ({"x.json": "[", "y.mp4": ""}, "no list of clips"),
        ({"x.json": "[]", "y.json": "[]"}, r"2 \.json files"),
    ],
    ids=repr,
)
def test_a_folder_that_can_not_be_understood_is_an_error_that_names_it(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_source(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_no_folder_says_what_to_set(tmp_path):
    with pytest.raises(ValueError, match=r"set clips\.source"):
        read_source(tmp_path / "none")
