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
from typing import IO, NamedTuple

from flows import leash

TAIL = 200  # last lines of a command that are kept,
SHOWN = 20  # and how many its error repeats, where none of them begins with "error:"
POLL = 0.5  # seconds between looks at the clock and at STOP
BARS = "30"  # seconds between two states of a progress bar: each is a line of the log
TRY_AGAIN = 75  # EX_TEMPFAIL: what `motive` exits with where trying again may help
BUSY = re.compile(r"Unable to acquire lock|is busy, it is being blocked by", re.IGNORECASE)
EXITED = re.compile(r"exited with (-?\d+)")

RAN = "Ran"
STAGE_LINES = {
    re.compile(r"^Running stage '(.+)':"): RAN,
    re.compile(r"^Stage '(.+)' is cached - skipping run"): "Restored",
    re.compile(r"^Stage '(.+)' didn't change, skipping"): "UpToDate",
}

STOP = Event()  # set where a flow run is cancelled: its tasks are threads, which no signal reaches


class StageLine(NamedTuple):
    stage: str
    outcome: str


class StageFailed(RuntimeError):
    """A command ended with an error: which command, what it said of it, and the stage, if it was one's.

    `may_pass`: trying again may mend it.
    """

    def __init__(self, command: str, text: str, stage: str = "", may_pass: bool = False):
        super().__init__(command, text, stage, may_pass)
        self.command = command
        self.text = text
        self.stage = stage
        self.may_pass = may_pass

    def __str__(self) -> str:
        place = f"{self.stage}: " if self.stage else ""
        return f"{place}`{self.command}` failed:\n{self.text}"


def dvc(*arguments: str, hours: float = 24, environment: dict[str, str] | None = None) -> Generator[str]:
    """Yield what `dvc` says line by line; whatever ends the caller, its process and all it started end too.

    The hours are those of a stage: they begin again with each.

    Raises:
        StageFailed: it ended with an error, took longer than so many hours, or the flow run was stopped.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    yield from run(command, hours, environment or {})


def run(command: list[str], hours: float, environment: dict[str, str]) -> Generator[str]:
    """As `dvc`, for any command."""
    process = _start(command, environment)
    assert process.stdin is not None
    assert process.stdout is not None
    lines: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    tail: deque[str] = deque(maxlen=TAIL)
    end = time.monotonic() + hours * 3600
    try:
        while True:
            line = _next_line(lines, end, command, hours)
            if line is None:
                break
            if line.strip():
                tail.append(line.strip())
                yield line.strip()
            if read_stage_line(line):
                end = time.monotonic() + hours * 3600
        code = process.wait()
        if code:
            text = "\n".join(_essence([*tail]))
            raise StageFailed(name_of(command), text, may_pass=_may_pass(code, text))
    finally:
        process.stdin.close()  # the leash ends what still runs
        process.wait(2 * leash.GRACE + 5)


def read_stage_line(line: str) -> StageLine | None:
    """Which stage DVC begins with this line of its output, and how that ends if nothing goes wrong."""
    for pattern, outcome in STAGE_LINES.items():
        match = pattern.search(line)
        if match:
            return StageLine(match[1], outcome)
    return None


def name_of(command: list[str]) -> str:
    """As a person types it."""
    return " ".join(command).replace(f"{sys.executable} -m ", "").replace("--wait-for-lock ", "")


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # stages call `motive`
    own = {"PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": BARS, "PATH": path}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", leash.__file__, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,  # which makes a line of each state of a progress bar
        errors="replace",
        start_new_session=True,
        env={**os.environ, **own, **environment},
    )


def _essence(lines: list[str]) -> list[str]:
    """What a failed command said of its failure."""
    for n, line in enumerate(lines):
        if line.startswith("error:"):
            return lines[n:]
    return lines[-SHOWN:]


def _pump(stream: IO[str], lines: SimpleQueue) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _next_line(lines: SimpleQueue, end: float, command: list[str], hours: float) -> str | None:
    """The next line, or None after the last."""
    while True:
        if STOP.is_set():
            raise StageFailed(name_of(command), "it was stopped; what it has done is kept")
        if time.monotonic() > end:
            text = f"it took longer than {hours:g} hours: raise the parameter stage_hours"
            raise StageFailed(name_of(command), text)
        try:
            return lines.get(timeout=POLL)
        except Empty:
            continue


def _may_pass(code: int, text: str) -> bool:
    """Whether the error is of a lock, a killed process or a server, and no mistake in parameters or data."""
    codes = [int(digits) for digits in EXITED.findall(text)] or [code]
    killed = any(code < 0 or 128 < code < 160 for code in codes)  # by a signal, as Python or a shell says it
    return killed or TRY_AGAIN in codes or bool(BUSY.search(text))
