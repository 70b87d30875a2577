"""The commands, each run in a process of its own: `motive`, and the benchmarks on a small input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from motive.cli import main; main()"]


def motive(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run `motive` and keep what it prints."""
    env = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def run_benchmark(name: str, folder: Path, *options: str, cwd: Path = ROOT) -> dict[str, Any]:
    """The numbers that a benchmark writes; a failure shows what it printed."""
    out = folder / f"{name}.json"
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / f"benchmarks/{name}.py", "--json", out, *options],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())
