"""A user's folder of clips -> which files, with which captions: the layouts of docs/data.md.

What is wrong with a row is a failure of that row; only a folder that can't be understood at all is an error.
"""

import csv
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motive.clips.table import Failure
from motive.errors import BadClip

log = logging.getLogger("motive")

VIDEO_SUFFIXES = set(".mp4 .m4v .mov .webm .mkv .avi .gif .mpg .mpeg .ts .flv .wmv .ogv".split())  # noqa: SIM905
FILE_KEYS = ("file_name", "file_path", "path", "video_path", "video")
CAPTION_KEYS = ("caption", "text", "prompt", "cap")
MAX_TEXT = 65536  # characters of a caption or a name


@dataclass(frozen=True)
class Entry:
    """A file of the folder that exists and lies in it; the caption is None where there is none."""

    file: str  # relative to the folder
    caption: str | None
    motion: str = ""


@dataclass(frozen=True)
class Source:
    """What a folder offers: entries sorted by file, and what can't be one."""

    layout: str
    entries: list[Entry]
    failures: list[Failure]
    num_ignored: int  # video files that the metadata doesn't mention


Mention = tuple[str, Any]  # of a file: where it stands, and what stands there: a mapping, or why it is none


def read_source(folder: Path) -> Source:
    """Read which clips a folder offers.

    Raises:
        ValueError: no folder, no clips in it, or metadata that can't be understood as a whole.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: set clips.source in params.yaml to folders of clips")
    layout, mentions = _mentions(folder)
    entries, failures = _entries(folder, mentions)
    if not entries and not failures:
        raise ValueError(f"{folder} has no clips ({layout}): see docs/data.md, 'Clips in'")
    num_ignored = 0
    if layout != "plain files":
        num_ignored = len(set(_video_files(folder)) - {entry.file for entry in entries})
    log.info("%s: %d clips by %s, %d rows can't be used", folder, len(entries), layout, len(failures))
    if num_ignored:
        log.warning("%s: %d video files are not usable by %s and are ignored", folder, num_ignored, layout)
    return Source(layout, sorted(entries, key=lambda entry: entry.file), sorted(failures), num_ignored)


# ---- the layouts


def _mentions(folder: Path) -> tuple[str, Iterator[Mention]]:
    """The layout's name, and what it mentions."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    tables = sorted(names & {"metadata.jsonl", "metadata.csv", "metadata.parquet"})
    _check_inside(folder, [*tables, *(names & {"videos.txt", "prompts.txt", "captions.txt"})])
    lists = sorted(name for name in names if name.endswith(".json"))
    if len(tables) > 1:
        raise ValueError(f"{folder} has {' and '.join(tables)}: keep one")
    if tables:
        readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
        return tables[0], readers[Path(tables[0]).suffix](folder / tables[0])
    if "videos.txt" in names:
        return "videos.txt", _line_by_line(folder, names)
    if lists:
        if len(lists) > 1:
            raise ValueError(f"{folder} has {len(lists)} .json files ({', '.join(lists[:3])}): keep one")
        _check_inside(folder, lists)
        return lists[0], _json(folder / lists[0])
    return "plain files", _plain(folder)


def _jsonl(path: Path) -> Iterator[Mention]:
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if line.strip():
            yield f"{path.name} line {number}", _parsed(line)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return BadClip("bad_row", f"no JSON: {error}")


def _csv(path: Path) -> Iterator[Mention]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = [name.strip() for name in next(lines, [])]
        _check_columns(path, header)
        while True:
            try:
                fields = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{path.name} line {lines.line_num}", BadClip("bad_row", f"no CSV: {error}")
                continue
            if fields:
                yield f"{path.name} line {lines.line_num}", _named(header, fields)


def _named(header: list[str], fields: list[str]) -> dict[str, str] | BadClip:
    if len(fields) != len(header):
        return BadClip("bad_row", f"{len(fields)} fields, the header has {len(header)}")
    return dict(zip(header, fields, strict=True))


def _parquet(path: Path) -> Iterator[Mention]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowException

    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} is no readable Parquet: {error}") from None
    _check_columns(path, table.column_names)
    used = [name for name in table.column_names if name in (*FILE_KEYS, *CAPTION_KEYS, "motion")]
    for number, row in enumerate(table.select(used).to_pylist(), 1):
        yield f"{path.name} row {number}", row


def _json(path: Path) -> Iterator[Mention]:
    rows = _parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if not isinstance(rows, list):
        what = rows if isinstance(rows, BadClip) else f"a {type(rows).__name__}"
        raise ValueError(f"{path} is no list of clips ({what}): see docs/data.md, 'Clips in'")
    yield from ((f"{path.name} item {number}", row) for number, row in enumerate(rows, 1))


def _line_by_line(folder: Path, names: set[str]) -> Iterator[Mention]:
    prompts = next((name for name in ("prompts.txt", "captions.txt") if name in names), None)
    files = _lines(folder / "videos.txt")
    captions = _lines(folder / prompts) if prompts else [""] * len(files)
    if len(files) < len(captions):  # empty last captions look like no lines
        raise ValueError(f"{folder}: videos.txt has {len(files)} lines, {prompts} has {len(captions)}")
    captions += [""] * (len(files) - len(captions))
    for number, (file, caption) in enumerate(zip(files, captions, strict=True), 1):
        if file.strip():
            yield f"videos.txt line {number}", {"file_name": file.strip(), "caption": caption}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig", errors="replace").rstrip().split("\n")


def _plain(folder: Path) -> Iterator[Mention]:
    for file in _video_files(folder):
        beside = (folder / file).with_suffix(".txt")
        try:
            yield file, {"file_name": file, "caption": _caption(folder, beside)}
        except OSError as error:
            yield file, BadClip("no_access", f"its caption {beside.name} can't be read: {error.strerror}")


def _caption(folder: Path, path: Path) -> str | None:
    """What a text file says, or a little more than a caption may be of it; None without one in the folder."""
    if not (path.is_file() and _inside(folder, path)):
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(MAX_TEXT + 1)


def _video_files(folder: Path) -> list[str]:
    """All video files by name, sorted, not looking into hidden or linked folders."""
    videos: list[str] = []
    for where, folders, files in os.walk(folder, onerror=_say_unread):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(where, name)
            if not name.startswith(".") and path.suffix.lower() in VIDEO_SUFFIXES:
                videos.append(path.relative_to(folder).as_posix())
    return sorted(videos)


def _say_unread(error: OSError) -> None:
    log.warning("%s can't be looked into: %s", one_line(str(error.filename)), error.strerror)


def _check_inside(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        if not _inside(folder, folder / name):
            raise ValueError(f"{folder / name} is a link that leaves the folder: put the file itself there")


def _check_columns(path: Path, names: Iterable[str]) -> None:
    if not set(names) & set(FILE_KEYS):
        raise ValueError(f"{path} has columns {list(names)}: none is one of {', '.join(FILE_KEYS)}")


# ---- one row


def _entries(folder: Path, mentions: Iterator[Mention]) -> tuple[list[Entry], list[Failure]]:
    entries: dict[str, Entry] = {}
    failures: list[Failure] = []
    first: dict[str, str] = {}
    for where, row in mentions:
        try:
            entry = _entry(folder, row)
            if entry.file in entries:
                raise BadClip("repeated", f"{entry.file} again: first in {first[entry.file]}")
            entries[entry.file] = entry
            first[entry.file] = where
        except BadClip as bad:
            failures.append(Failure(_printable(where), bad.kind, _printable(bad.reason)))
    return list(entries.values()), failures


def _entry(folder: Path, row: Any) -> Entry:
    if isinstance(row, BadClip):
        raise row
    if not isinstance(row, dict):
        raise BadClip("bad_row", f"no mapping but a {type(row).__name__}")
    file = _text(row, FILE_KEYS)
    if file is None:
        raise BadClip("bad_row", f"names no file: none of {', '.join(FILE_KEYS)}")
    return Entry(_checked_file(folder, file), _text(row, CAPTION_KEYS), _text(row, ("motion",)) or "")


def _text(row: dict, keys: tuple[str, ...]) -> str | None:
    """The first of these keys that has a value; None where none has or it is blank."""
    for key in keys:
        text = row.get(key)
        if text is None or text != text:  # NaN is not itself
            continue
        if not isinstance(text, str):
            raise BadClip("bad_row", f"{key} is {text!r}, no text")
        if len(text) > MAX_TEXT:
            raise BadClip("bad_row", f"{key} has more than {MAX_TEXT} characters")
        if _printable(text) != text:
            raise BadClip("bad_row", f"{key} {text!r} is no valid text")
        return text.strip() or None
    return None


def _checked_file(folder: Path, file: str) -> str:
    """The path relative to the folder, of a file that exists and lies in it."""
    path = Path(os.path.normpath(file))
    if path.is_absolute() or ".." in path.parts or "\0" in file:
        raise BadClip("outside", f"{file!r} leaves the folder: paths are relative to it")
    try:
        if not (folder / path).is_file():  # opening a pipe or a device could wait for ever
            raise BadClip("no_file", f"{file} is {_what_instead(folder / path)}")
    except OSError as error:
        raise BadClip("no_access", f"{file} can't be read: {error.strerror}") from None
    if not _inside(folder, folder / path):
        raise BadClip("outside", f"{file} is a link that leaves the folder")
    return path.as_posix()


def _what_instead(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    if path.exists():
        return "no regular file but a pipe, socket or device"
    return "a link to nothing" if path.is_symlink() else "missing"


def _inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def one_line(text: str) -> str:
    """Text as a terminal may be given it: line breaks, escapes and the like are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _printable(text: str) -> str:
    """Text as UTF-8 can hold it: file names may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
