"""What Prefect costs beside DVC, how long nothing takes, when a stage says its first word, who calls outside.

    python -m benchmarks.orchestration --json orchestration.json

It makes a project and servers of its own; nothing has to run before. PostgreSQL must be installed.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from motive.cli import SPLIT_STAGES, STAGES
from motive.terminal import TELEMETRY_OFF
from testing.machine import LONG, dvc, make_site, worker_of
from testing.servers import BIN, free_port, postgres, prefect_api, prefect_server, wait_until
from testing.tiny import ROOT

NUM_STAGES = 8
HERE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", socket.gethostname()}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of each measurement; the median counts.")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="Flat numbers.")] = None,
) -> None:
    """Measure, print, and write flat numbers."""
    os.environ.update(TELEMETRY_OFF)  # as the Makefile does for the servers
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name:
        folder = Path(name)
        numbers = first_lines(folder, rounds) | overhead(folder, rounds) | nightly(folder, rounds)
    for key, value in numbers.items():
        typer.echo(f"{key:28} {value:.3f}" if isinstance(value, float) else f"{key:28} {value}")
    if json_path:
        json_path.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def first_lines(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds until a stage's first line, of the slowest stage; without params.yaml none goes on."""
    empty = folder / "empty"
    empty.mkdir()
    commands = [[stage, "pool"] for stage in SPLIT_STAGES] + [[stage] for stage in STAGES]
    seconds = {}
    for command in commands:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            with subprocess.Popen(
                [BIN / "motive", *command], cwd=empty, stderr=subprocess.PIPE, text=True
            ) as running:
                assert running.stderr is not None
                assert command[0] in running.stderr.readline()
                times.append(time.perf_counter() - start)
                running.kill()
        seconds[command[0]] = median(times)
    slowest = max(seconds, key=lambda stage: seconds[stage])
    typer.echo(f"slowest to its first line: {slowest}")
    return {"slowest_first_line_s": seconds[slowest]}


def overhead(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds a stage that the flow takes longer than `dvc repro`, process start included; by turns."""
    toy = folder / "toy"
    toy.mkdir()
    stages = "".join(
        f"  s{n}:\n    cmd: cat {f's{n - 1}.txt' if n else 'source.txt'} > s{n}.txt\n"
        f"    deps: [{f's{n - 1}.txt' if n else 'source.txt'}]\n    outs: [s{n}.txt]\n"
        for n in range(NUM_STAGES)
    )
    (toy / "dvc.yaml").write_text("stages:\n" + stages)
    shutil.copy(ROOT / "params.yaml", toy)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect")}
    subprocess.run(["git", "init", "--quiet"], cwd=toy, check=True)
    dvc(toy, env, "init", "--quiet")
    bare, flow = [], []
    port = free_port()
    with postgres() as database, prefect_server(folder / "server.log", env, database("prefect"), port):
        env |= {"PREFECT_API_URL": prefect_api(port)}
        commands = {"dvc": ["-m", "dvc", "repro"], "flow": ["-m", "flows.pipeline"]}
        for n in range(rounds + 1):  # the first round warms up
            for times, command in ((bare, commands["dvc"]), (flow, commands["flow"])):
                (toy / "source.txt").write_text(f"{command} {n}")  # or the run cache would restore them
                start = time.perf_counter()
                subprocess.run([sys.executable, *command], cwd=toy, env=env, capture_output=True, check=True)
                times.append(time.perf_counter() - start)
    seconds = [(one - other) / NUM_STAGES for one, other in zip(flow[1:], bare[1:], strict=True)]
    return {
        "overhead_per_stage_s": median(seconds),
        "overhead_per_stage_max_s": max(seconds),
        "dvc_repro_per_stage_s": median(bare[1:]) / NUM_STAGES,
    }


def nightly(folder: Path, rounds: int) -> dict[str, float]:
    """A small project by schedule and worker: seconds of a nightly run that finds nothing new, from asking
    for it to its end, and the addresses outside this machine that anything asked for in all that time."""
    (project := folder / "site").mkdir()
    (logs := folder / "logs").mkdir()
    with make_site(project, logs, num_pool=12) as site, worker_of(site, logs / "worker.log"):
        wait_until(lambda: site.ended("nightly"), LONG, "the first nightly run ends")
        site.pause("nightly")
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            run = site.finished(site.start("nightly"))
            times.append(time.perf_counter() - start)
            assert run.state_name == "UpToDate", run.state
        asked = [line.split(" ", 1) for line in Path(site.env["WATCHED"]).read_text().splitlines()]
    outside = sorted({f"{host} by {who}" for host, who in asked if host not in HERE})
    for line in outside:
        typer.echo(f"outside: {line}")
    return {
        "noop_nightly_s": median(times),
        "noop_nightly_max_s": max(times),
        "num_connections": len(asked),
        "num_outside_connections": len(outside),
    }


if __name__ == "__main__":
    typer.run(main)
