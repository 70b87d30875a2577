"""What is built holds the package `motive` alone, and works where only that is installed."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

from testing.tiny import ROOT

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHER_PACKAGES = ("toyworld", "testing", "flows", "tests", "benchmarks")
LOOK = f"""
from importlib.metadata import distribution
from importlib.util import find_spec
import motive
import motive.cli
print(distribution("motive").locate_file(""))
print(motive.__file__)
print(motive.cli.__file__)
print([name for name in {OTHER_PACKAGES} if find_spec(name)])
"""


def call(*command: str | Path, cwd: Path) -> str:
    """What a command prints. It sees neither the checkout nor a package index."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_TARGET")}
    done = subprocess.run(
        command, cwd=cwd, env=env | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """As `pip install` builds it, with the environment's own hatchling."""
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    call(sys.executable, "-m", "pip", "wheel", *options, source, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    call(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=ROOT)
    return folder / f"motive-{PROJECT['version']}.tar.gz"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it; what the wheel depends on is the running environment's.

    Installing that, too, would take gigabytes: a .pth file names its folders. Python reads no .pth files
    there, so that an editable installation of the checkout stays out of sight.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
    call(*pip, "install", "--no-deps", wheel, cwd=folder)
    [packages] = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    return folder


def test_a_wheel_holds_all_of_motive_and_nothing_else(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {path for path in (ROOT / "src/motive").rglob("*") if path.is_file()}
    package = {str(path.relative_to(ROOT / "src")) for path in files if "__pycache__" not in path.parts}
    about = {name for name in names if name.startswith(f"motive-{PROJECT['version']}.dist-info/")}
    assert "motive/checks/page.html" in package
    assert names - about == package


def test_a_wheel_says_what_pyproject_says(wheel):
    about = f"motive-{PROJECT['version']}.dist-info"
    with ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read(f"{about}/METADATA").decode())
        scripts = archive.read(f"{about}/entry_points.txt").decode().split()
        assert archive.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) == len(PROJECT["dependencies"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == PROJECT["optional-dependencies"].keys()
    assert scripts == ["[console_scripts]", "motive", "=", "motive.cli:main"]


def test_an_sdist_gives_the_same_wheel(sdist, wheel, tmp_path):
    assert build_wheel(sdist, tmp_path).read_bytes() == wheel.read_bytes()


def test_an_sdist_holds_what_the_tests_need_and_no_results(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"params.yaml", "dvc.yaml", "Makefile", "constraints.txt", "LICENSE"} <= names
    data = {name for name in names if name.startswith("data/") and not name.endswith(".dvc")}
    assert data == {"data/prompts.txt"}
    assert not [name for name in names if name.startswith((".git/", ".venv/", ".motive/", "mlflow.db"))]


def test_the_command_works_where_the_wheel_is_installed(installed, tmp_path):
    command = installed / "bin/motive"
    assert call(command, "--version", cwd=tmp_path) == f"motive {PROJECT['version']}\n"
    table = call(command, "params", ROOT / "profiles/paper.yaml", cwd=tmp_path)
    assert "curation.strategy" in table
    assert not list(tmp_path.iterdir())


def test_what_works_there_is_the_wheel_and_not_the_checkout(installed, tmp_path):
    *places, others = call(installed / "bin/python", "-c", LOOK, cwd=tmp_path).splitlines()
    assert len(places) == 3
    assert all(Path(place).is_relative_to(installed) for place in places), places
    assert others == "[]"
