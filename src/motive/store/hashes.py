"""What is in a file, or in a few values, in few letters."""

import hashlib
import json
from pathlib import Path
from typing import Any

from motive.store.files import write_text
from motive.store.layout import work_folder

LARGE = 1 << 26  # bytes, from which on a digest is remembered: weights of a video model take a minute


def bytes_digest(content: bytes, length: int = 16) -> str:
    """So many hex digits of SHA-256."""
    return hashlib.sha256(content).hexdigest()[:length]


def text_digest(text: str, length: int = 16) -> str:
    """The same of a text."""
    return bytes_digest(text.encode(), length)


def values_digest(values: Any, length: int = 16) -> str:
    """The same of values that JSON can hold, in any order of their keys."""
    return text_digest(json.dumps(values, sort_keys=True), length)


def hash_file(path: Path) -> str:
    """SHA-256 of every byte of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of every byte. A large file is read again only if its size, time or place changed."""
    status = path.stat()
    if status.st_size < LARGE:
        return hash_file(path)
    state = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
    remembered = work_folder("digests") / text_digest(state, 64)
    if not remembered.is_file():
        write_text(remembered, hash_file(path))
    return remembered.read_text()
