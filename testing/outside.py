"""Watches what lies outside a folder: files by inotify, a server on this machine by its own count."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def counting() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and what was asked of it."""
    hits: list[str] = []

    class Counter(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", hits
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def watched(folder: Path) -> Iterator[list[bytes]]:
    """What is opened or read in a folder meanwhile, filled in at the end; nothing without inotify."""
    events: list[bytes] = []
    if sys.platform != "linux":
        yield events
        return
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    files_opened_or_read = 0x21
    assert libc.inotify_add_watch(watch, os.fsencode(folder), files_opened_or_read) > 0
    next(folder.glob("*.mp4")).read_bytes()  # it must see this
    assert os.read(watch, 1 << 16)
    try:
        yield events
    finally:
        with suppress(BlockingIOError):  # nothing happened
            events.append(os.read(watch, 1 << 16))
        os.close(watch)
