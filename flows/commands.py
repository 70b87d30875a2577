"""Runs DVC as a process whose lines are read while it runs, and which ends with whoever runs it."""

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import IO

from flows import leash

TAIL = 200  # last lines of a command that are kept,
SHOWN = 20  # and how many its error repeats, where none of them begins with "error:"
POLL = 0.5  # seconds between looks at the clock and at STOP
BARS = "30"  # seconds between two states of a progress bar: each is a line of the log
TRY_AGAIN = 75  # EX_TEMPFAIL: what `motive` exits with where trying again may help
BUSY = re.compile(r"Unable to acquire lock|is busy, it is being blocked by", re.IGNORECASE)
EXITED = re.compile(r"exited with (-?\d+)")

STOP = Event()  # set where a flow run is cancelled: its tasks are threads, which no signal reaches


class StageFailed(RuntimeError):
    """A command ended with an error, which stands in the message; `may_pass`: trying again may mend it."""

    def __init__(self, message: str, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass


def dvc(*arguments: str, hours: float = 24, **environment: str) -> Generator[str]:
    """Yield what `dvc` says line by line; whatever ends the caller, its process and all it started end too.

    Raises:
        StageFailed: it ended with an error, took longer than so many hours, or the flow run was stopped.
    """
    yield from run([sys.executable, "-m", "dvc", "--wait-for-lock", *arguments], hours, environment)


def run(command: list[str], hours: float, environment: dict[str, str]) -> Generator[str]:
    """As `dvc`, for any command."""
    name = " ".join(command).replace(f"{sys.executable} -m ", "").replace("--wait-for-lock ", "")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # stages call `motive`
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": BARS, "PATH": path, **environment}
    held = [sys.executable, "-I", "-S", leash.__file__, *command]
    process = subprocess.Popen(
        held,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,  # which makes a line of each state of a progress bar
        errors="replace",
        start_new_session=True,
        env=env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    tail: deque[str] = deque(maxlen=TAIL)
    end = time.monotonic() + hours * 3600
    try:
        while (line := _next(lines, end, name, hours)) is not None:
            if line := line.strip():
                tail.append(line)
                yield line
        if code := process.wait():
            said = "\n".join(_essence([*tail]))
            raise StageFailed(f"`{name}` failed:\n{said}", _may_pass(code, said))
    finally:
        process.stdin.close()  # the leash ends what still runs
        process.wait(2 * leash.GRACE + 5)


def _essence(lines: list[str]) -> list[str]:
    """What a failed command said of its failure."""
    first = (n for n, line in enumerate(lines) if line.startswith("error:"))
    return lines[next(first, -SHOWN) :]


def _pump(stream: IO[str], lines: SimpleQueue) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _next(lines: SimpleQueue, end: float, name: str, hours: float) -> str | None:
    """The next line, or None after the last."""
    while True:
        if STOP.is_set():
            raise StageFailed(f"`{name}` was stopped; what it has done is kept")
        if time.monotonic() > end:
            raise StageFailed(f"`{name}` took longer than {hours:g} hours: raise the parameter stage_hours")
        try:
            return lines.get(timeout=POLL)
        except Empty:
            continue


def _may_pass(code: int, said: str) -> bool:
    """Whether the error is of a lock, a killed process or a server, and no mistake in parameters or data."""
    codes = [int(found) for found in EXITED.findall(said)] or [code]
    killed = any(code < 0 or 128 < code < 160 for code in codes)  # by a signal, as Python or a shell says it
    return killed or TRY_AGAIN in codes or bool(BUSY.search(said))
