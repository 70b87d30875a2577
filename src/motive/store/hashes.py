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
    path = path.resolve()
    key = text_digest(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ino}", 64)
    remembered = work_folder("digests") / key
    if status.st_size >= LARGE and remembered.is_file():
        return remembered.read_text()
    digest = hash_file(path)
    if status.st_size >= LARGE:
        write_text(remembered, digest)
    return digest
