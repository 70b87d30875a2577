"""Ray: on this machine alone, or a cluster that runs; with errors a person can act on."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from motive.errors import TryAgain
from motive.workers.deal import deal

pytestmark = pytest.mark.slow

if find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install '.[ray]'", allow_module_level=True)


def fail(chunk: int) -> int:
    raise ValueError(f"clip {chunk}: its box is empty")


def note_listeners(chunk: int, folder: Path) -> int:
    """Where Ray's processes listen, while they run."""
    ours = psutil.Process(os.getpid())
    family = [p for above in ours.parents() for p in above.children(recursive=True) if "ray" in p.name()]
    places = {c.laddr[0] for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    (folder / str(chunk)).write_text("\n".join(places))
    return 1


def note_and_wait(chunk: int, folder: Path) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(600)
    return 1


def test_an_error_is_the_workers_own() -> None:
    with pytest.raises(ValueError, match=r"^clip 0: its box is empty$"):
        deal(fail, [0], 1, total=1, label="ray", ray="local")


def test_a_local_ray_listens_to_this_machine_only(tmp_path: Path) -> None:
    deal(partial(note_listeners, folder=tmp_path), [0], 1, total=1, label="ray", ray="local")
    places = (tmp_path / "0").read_text().split()
    assert places
    assert {place.removeprefix("::ffff:") for place in places} == {"127.0.0.1"}


def test_no_gpu_is_told_before_anybody_waits_for_one() -> None:
    with pytest.raises(ValueError, match="ray is local and the device cuda, but Ray finds no GPU here"):
        deal(fail, [0], 1, total=1, label="ray", device="cuda", ray="local")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_nobody_at_the_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(TryAgain, match=f"ray is '{address}', but no Ray answers there: .*refused"):
        deal(fail, [0], 1, total=1, label="ray", ray=address)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    """The address of a cluster of one machine that somebody else started."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port = free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    options = ["--num-cpus=2", "--include-dashboard=false", "--object-store-memory=80000000", "--block"]
    command = [ray, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", *options]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    head.terminate()
    head.wait(30)


def test_a_cluster_that_runs_is_joined_and_goes_on(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert within(30, lambda: answers(cluster))
    for _ in range(2):
        deal(note_here, list(range(4)), 2, total=4, label="ray", ray=cluster)
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == set("0123")
    assert len({path.name.split(".")[1] for path in tmp_path.iterdir()}) >= 2, "other workers each time"
    assert answers(cluster)


def note_here(chunk: int) -> int:
    """Leave a file in the folder of who asked."""
    Path(f"{chunk}.{os.getpid()}").touch()
    time.sleep(0.5)
    return 1


def answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as one:
        return one.connect_ex((host, int(port))) == 0


def within(seconds: float, true) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_workers_of_a_local_ray_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = "from functools import partial; from pathlib import Path; from motive.workers.deal import deal\n"
    script += "from test_cluster import note_and_wait\n"
    script += (
        f"deal(partial(note_and_wait, folder=Path({str(tmp_path)!r})), [0, 1], 2, 2, 'ray', ray='local')"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
    assert within(60, lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [psutil.Process(int(path.name)) for path in tmp_path.iterdir()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert within(30, lambda: not any(alive(worker) for worker in workers))


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
