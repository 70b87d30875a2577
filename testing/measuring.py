"""What the benchmarks share: seconds and memory of a piece of work; numbers printed and written."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from motive.store.files import write_json

JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")]


def report(numbers: Mapping[str, Any], json_file: Path | None, title: str | None = None) -> None:
    """Print a row a number, and write all of them if there is a file to write."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=title, title_justify="left", show_header=False)
    for name, value in numbers.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console(markup=False, width=110).print(table)
    if json_file:
        write_json(json_file, numbers)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_new_process(script: str, *options: str) -> dict[str, Any]:
    """The JSON that a script prints with these options, in a process with a peak of its own."""
    return json.loads(subprocess.check_output([sys.executable, script, *options], text=True))


def own_peak_mb() -> float:
    """Largest resident size of this process so far, in MB; Linux only."""
    status = Path("/proc/self/status").read_text()  # getrusage would begin with the parent's
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak_mb(command: Sequence[str], folder: Path | None = None, every: float = 0.05) -> float:
    """The largest sum of memory that a command's processes hold (PSS: shared pages count once); Linux only.

    Raises:
        ValueError: the command fails.
    """
    peak = 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _family(process.pid))))
            time.sleep(every)
        if process.returncode:
            output.seek(0)
            last_words = output.read().decode(errors="replace")[-2000:]
            raise ValueError(f"{' '.join(command)} ended with {process.returncode}:\n{last_words}")
    return peak / 1e6


def _family(pid: int) -> list[int]:
    """A process and all below it, as far as they live."""
    pids = [pid]
    for parent in pids:  # grows meanwhile
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += map(int, children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return pids


def _pss(pid: int) -> int:
    """Bytes that a process holds, with its share of what others hold too; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
