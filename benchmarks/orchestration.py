"""What Prefect costs beside DVC, how long nothing takes, when a stage says its first word, who calls outside.

    python -m benchmarks.orchestration --json orchestration.json

It makes a project and servers of its own; nothing has to run before. PostgreSQL must be installed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated
from uuid import uuid4

import typer

from motive.cli import SPLIT_STAGES, STAGES
from motive.terminal import TELEMETRY_OFF
from testing.machine import LONG, Site, dvc, make_site, worker_of
from testing.measuring import JsonFile, report, seconds
from testing.servers import BIN, free_port, postgres, prefect_api, prefect_server, wait_until
from testing.tiny import ROOT
from testing.whole_project import write_yaml

NUM_STAGES = 8
HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", socket.gethostname()}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of each measurement; the median counts.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Measure, print, and write flat numbers."""
    os.environ.update(TELEMETRY_OFF)  # as the Makefile does for the servers
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name:
        folder = Path(name)
        numbers = first_lines(folder, rounds) | overhead(folder, rounds) | nightly(folder, rounds)
    report(numbers, json_file)


def first_lines(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds until a stage's first line, of the slowest stage; without params.yaml none goes on."""
    empty = folder / "empty"
    empty.mkdir()
    commands = [(stage, "pool") for stage in SPLIT_STAGES] + [(stage,) for stage in STAGES]
    times = {command[0]: median(first_line(command, empty) for _ in range(rounds)) for command in commands}
    slowest = max(times, key=lambda stage: times[stage])
    typer.echo(f"slowest to its first line: {slowest}")
    return {"slowest_first_line_s": times[slowest]}


def first_line(command: tuple[str, ...], folder: Path) -> float:
    """Seconds from the start of `motive STAGE` to its first line."""
    start = time.perf_counter()
    arguments = [BIN / "motive", *command]
    with subprocess.Popen(arguments, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert command[0] in running.stderr.readline()
        spent = time.perf_counter() - start
        running.kill()
    return spent


def overhead(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds a stage that the flow takes longer than `dvc repro`, process start included; by turns."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect")}
    toy = make_toy(folder, env)
    bare = []
    flow = []
    port = free_port()
    with postgres() as database, prefect_server(folder / "server.log", env, database("prefect"), port):
        env |= {"PREFECT_API_URL": prefect_api(port)}
        for _ in range(rounds + 1):  # the first round warms up
            bare.append(seconds(partial(run_toy, toy, env, "dvc", "repro")))
            flow.append(seconds(partial(run_toy, toy, env, "flows.pipeline")))
    added = [(one - other) / NUM_STAGES for one, other in zip(flow[1:], bare[1:], strict=True)]
    return {
        "overhead_per_stage_s": median(added),
        "overhead_per_stage_max_s": max(added),
        "dvc_repro_per_stage_s": median(bare[1:]) / NUM_STAGES,
    }


def make_toy(folder: Path, env: dict[str, str]) -> Path:
    """A DVC project of stages in a row, each the `cat` of a file."""
    toy = folder / "toy"
    toy.mkdir()
    files = [f"s{n}.txt" for n in range(NUM_STAGES)]
    stages = {
        Path(out).stem: {"cmd": f"cat {dep} > {out}", "deps": [dep], "outs": [out]}
        for dep, out in pairwise(["source.txt", *files])
    }
    write_yaml(toy / "dvc.yaml", {"stages": stages})
    shutil.copy(ROOT / "params.yaml", toy)
    subprocess.run(["git", "init", "--quiet"], cwd=toy, check=True)
    dvc(toy, env, "init", "--quiet")
    return toy


def run_toy(toy: Path, env: dict[str, str], module: str, *arguments: str) -> None:
    """Run a module on a source that is new, or the run cache would restore all stages."""
    (toy / "source.txt").write_text(str(uuid4()))
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, cwd=toy, env=env, capture_output=True, check=True)


def nightly(folder: Path, rounds: int) -> dict[str, float]:
    """A small project by schedule and worker: seconds of a nightly run that finds nothing new, from asking
    for it to its end, and the addresses outside this machine that anything asked for in all that time."""
    project = folder / "site"
    logs = folder / "logs"
    project.mkdir()
    logs.mkdir()
    with make_site(project, logs, num_pool=12) as site, worker_of(site, logs / "worker.log"):
        wait_until(lambda: site.ended("nightly"), LONG, "the first nightly run ends")
        site.pause("nightly")
        times = [seconds(partial(find_nothing_new, site)) for _ in range(rounds)]
        connections = [line.split(" ", 1) for line in Path(site.env["WATCHED"]).read_text().splitlines()]
    outside = sorted({f"{host} by {program}" for host, program in connections if host not in HERE})
    for line in outside:
        typer.echo(f"outside: {line}")
    return {
        "noop_nightly_s": median(times),
        "noop_nightly_max_s": max(times),
        "num_connections": len(connections),
        "num_outside_connections": len(outside),
    }


def find_nothing_new(site: Site) -> None:
    run = site.finished(site.start("nightly"))
    assert run.state_name == "UpToDate", run.state


if __name__ == "__main__":
    typer.run(main)
