"""Runs a command that must not outlive whoever asked for it: `python leash.py COMMAND...`.

Whoever asked holds the other end of this process's standard input. Where that end closes, because its holder
is done, was cancelled, or was killed with no chance to say so, all that the command started is ended.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Thread

GRACE = 10  # seconds for stopping by itself


def main(command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    Thread(target=_end_with_holder, args=(process,), daemon=True).start()
    code = process.wait()
    return 128 - code if code < 0 else code


def _end_with_holder(process: subprocess.Popen) -> None:
    os.read(0, 1)  # returns where the other end closes
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):  # ended, and so did all it started
            os.killpg(process.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
