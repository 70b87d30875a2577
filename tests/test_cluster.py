"""Ray: on this machine alone, or a cluster that runs; with errors a person can act on."""

import logging
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

from motive.workers import deal

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
    with pytest.raises(ValueError, match="^clip 0: its box is empty$"):
        deal(fail, [0], 1, total=1, label="ray", ray="local")


def test_a_local_ray_listens_to_this_machine_only(tmp_path: Path) -> None:
    deal(partial(note_listeners, folder=tmp_path), [0], 1, total=1, label="ray", ray="local")
    places = (tmp_path / "0").read_text().split()
    assert places
    assert {place.removeprefix("::ffff:") for place in places} == {"127.0.0.1"}


def test_no_card_is_told_before_anybody_waits_for_one() -> None:
    with pytest.raises(ValueError, match="ray is local and the device cuda, but Ray finds no card here"):
        deal(fail, [0], 1, total=1, label="ray", device="cuda", ray="local")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_nobody_at_the_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    script = f"from motive.workers import deal; deal(print, [0], 1, 1, 'ray', ray='{address}')"
    env = os.environ | {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_NUM_REDIS_GET_RETRIES": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert f"ValueError: ray is '{address}', but no Ray answers there" in done.stderr
