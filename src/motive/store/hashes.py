"""What is in a file, in few letters."""

import hashlib
from pathlib import Path

from motive.store.files import WORK, write_text

LARGE = 1 << 26  # bytes, from which on a digest is remembered: weights of a video model take a minute


def file_digest(path: Path) -> str:
    """SHA-256 of every byte. A large file is read again only if its size, time or place changed."""
    at, path = path.stat(), path.resolve()
    key = hashlib.sha256(f"{path} {at.st_size} {at.st_mtime_ns} {at.st_ino}".encode()).hexdigest()
    known = WORK / "digests" / key
    if at.st_size >= LARGE and known.is_file():
        return known.read_text()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if at.st_size >= LARGE:
        write_text(known, digest)
    return digest
