"""Real servers on this machine, for tests and benchmarks: PostgreSQL, Prefect, MLflow, S3."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError

from motive.terminal import TELEMETRY_OFF
from testing.tiny import ROOT

BIN = Path(sys.executable).parent
EXPORT = re.compile(r"^export (\w+) := ([\w.]+)$", re.MULTILINE)
BUCKET = ROOT / "deploy/bucket.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def made_environment() -> dict[str, str]:
    """As `make server` and `make worker` have it: switches that only tests set are not in it."""
    return {name: value for name, value in os.environ.items() if name not in TELEMETRY_OFF} | dict(
        EXPORT.findall((ROOT / "Makefile").read_text())
    )


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Look again and again, and give up after far longer than it takes on a busy machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds:g} s still not: {what}"
        time.sleep(0.3)


@contextmanager
def process(
    command: list[str], log: Path, env: dict[str, str], folder: Path | None = None, owner: str | None = None
) -> Iterator[subprocess.Popen]:
    """A program that runs until the end of the block, with all that it started."""
    with log.open("ab") as file:
        running = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=folder,
            start_new_session=True,
            user=owner,
            group=owner,
        )
    try:
        yield running
    finally:
        kill_group(running, signal.SIGTERM)
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            kill_group(running, signal.SIGKILL)
            running.wait()


def kill_group(running: subprocess.Popen, which: signal.Signals) -> None:
    """Send a signal to a process and all it started in its session."""
    try:
        os.killpg(running.pid, which)
    except ProcessLookupError:
        return


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs: Debian's newest, or that of the path."""
    newest = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
    server = newest or shutil.which("postgres")
    assert server, "no PostgreSQL on this machine: on Debian, `apt-get install postgresql`"
    return Path(server).parent


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server; what it yields makes a database and says how to reach it, after the scheme."""
    programs = postgres_programs()
    port = free_port()
    owner = "postgres" if os.getuid() == 0 else None  # it refuses root
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        if owner:
            shutil.chown(folder, owner, owner)
        quiet = partial(subprocess.run, check=True, cwd=folder, stdout=subprocess.DEVNULL, user=owner)
        quiet([programs / "initdb", "--pgdata", folder / "data", "--auth", "trust", "--username", "postgres"])
        options = ["-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", name]
        command = [str(programs / "postgres"), *options]
        with process(command, folder / "log", dict(os.environ), folder, owner) as running:
            client = ["psql", "-qh", "127.0.0.1", "-p", str(port), "-U", "postgres", "-c"]

            def up() -> bool:
                assert running.poll() is None, (folder / "log").read_text()
                return not subprocess.run([*client, ""], stderr=subprocess.DEVNULL, check=False).returncode

            def database(name: str) -> str:
                quiet([*client, f"create database {name}"])
                return f"://postgres@127.0.0.1:{port}/{name}"

            wait_until(up, 60, "PostgreSQL is up")
            yield database


@contextmanager
def s3(log: Path, bucket: str) -> Iterator[dict[str, str]]:
    """An S3 server with a bucket; yields the environment in which clients find it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    env |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address}
    command = [str(BIN / "moto_server"), "--host", "127.0.0.1", "--port", str(port)]
    with process(command, log, {**os.environ, **env}) as running:
        wait_until(lambda: answers(running, f"{address}/moto-api/", log), 120, "the S3 server is up")
        command = [sys.executable, str(BUCKET), bucket]
        subprocess.run(command, env={**os.environ, **env}, check=True)
        yield env


@contextmanager
def prefect_server(log: Path, env: dict[str, str], database: str, port: int) -> Iterator[subprocess.Popen]:
    """A Prefect server with PostgreSQL behind it, at `prefect_api(port)`."""
    address = prefect_api(port)
    settings = {
        "PREFECT_API_URL": address,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": address,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg{database}",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
    }
    with process([str(BIN / "prefect"), "server", "start"], log, {**env, **settings}) as running:
        wait_until(lambda: answers(running, f"{address}/health", log), 300, "Prefect's server is up")
        yield running


def prefect_api(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


@contextmanager
def mlflow_server(log: Path, env: dict[str, str], store: str, artifacts: str) -> Iterator[str]:
    """An MLflow server with a database and a folder or bucket behind it; yields its address."""
    port = free_port()
    command = [str(BIN / "mlflow"), "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", artifacts]
    settings = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with process(command, log, {**env, **settings}) as running:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(running, f"{address}/health", log), 300, "MLflow's server is up")
        yield address


def answers(running: subprocess.Popen, address: str, log: Path) -> bool:
    assert running.poll() is None, f"it ended:\n{log.read_text()[-3000:]}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False
