"""Workers on a Ray cluster: each is an actor, with a GPU of its own where the work needs one."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from motive.errors import TryAgain

log = logging.getLogger("motive")
LOCAL = "local"
OBJECT_STORE = 80 << 20  # bytes, Ray's least: a worker writes files and returns a number


class WorkerDied(Exception):
    """A worker ended before what it was given did."""


@contextmanager
def connected(address: str, num_workers: int, device: str) -> Iterator[Callable[[int], "RayWorker"]]:
    """Yield what starts a worker on the cluster at `address`, or on one of this machine alone ("local").

    Each machine of a cluster must have the project's environment, and its folder at the same path.

    Raises:
        TryAgain: nobody answers at the address.
        ValueError: Ray is not installed, or a local Ray lacks the GPU `device` asks for.
    """
    ray = _ray(address)
    local = {"num_cpus": num_workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        _knock(address)
        ray.init(address, logging_level="WARNING", **(local if address == LOCAL else {}))
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise TryAgain(f"ray is {address!r}, but no Ray answers there: {error}") from None
    try:
        has = ray.cluster_resources()
        log.info("ray %s: %d CPUs, %d GPUs", address, has.get("CPU", 0), has.get("GPU", 0))
        if device != "cpu" and address == LOCAL and not has.get("GPU"):
            raise ValueError(f"ray is local and the device {device}, but Ray finds no GPU here: use cpu")
        yield partial(RayWorker, num_gpus=int(device != "cpu"))
    finally:
        ray.shutdown()


def _ray(address: str) -> Any:
    """The library, with nothing sent to its makers and, if local, no port open to other machines."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so named, but on Linux too: loopback only
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(f"ray is {address!r}, but Ray is not installed: pip install 'motive[ray]'") from None
    return ray


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody is."""
    if ":" in address:
        host, port = address.removeprefix("ray://").split(":")
        socket.create_connection((host, int(port)), timeout=10).close()


class RayWorker:
    """One actor; where the cluster has no place yet, what is submitted waits."""

    def __init__(self, _: int, num_gpus: int):
        import ray

        options = {"num_cpus": 1, "num_gpus": num_gpus, "max_restarts": 0}
        self.actor: Any = ray.remote(Actor).options(**options).remote(str(Path.cwd()), sys.path)

    def submit(self, work: Callable[[Any], int], chunk: Any) -> Future:
        return self.actor.call.remote(work, chunk).future()

    def result(self, future: Future) -> int:
        """What the work returned or raised.

        Raises:
            WorkerDied: the actor, or the machine it was on, ended first.
        """
        from ray import exceptions

        try:
            return future.result()
        except exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except exceptions.RayError as death:
            raise WorkerDied(str(death).splitlines()[0]) from None

    def stop(self) -> None:
        import ray

        ray.kill(self.actor)


class Actor:
    """What runs in a Ray worker: in the folder, and with the import path, of who started it."""

    def __init__(self, folder: str, path: list[str]):
        os.chdir(folder)
        sys.path[:] = [*path, *(place for place in sys.path if place not in path)]

    def call(self, work: Callable[[Any], int], chunk: Any) -> int:
        return work(chunk)
