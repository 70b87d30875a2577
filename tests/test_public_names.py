"""`import motive`: few names, each there, explained, and loaded only when it is used."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import motive

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", motive.__all__)
def test_a_public_name_is_there_and_explained(name: str) -> None:
    assert getattr(motive, name).__doc__
    assert name in dir(motive)


def test_editors_know_the_names_that_are_loaded() -> None:
    tree = ast.parse((ROOT / "src/motive/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == motive._MODULES


def test_importing_loads_nothing_slow() -> None:
    code = "import sys, motive; print(*({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_version_is_the_source_trees() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert motive.__version__ == project["version"]


def test_without_an_installation_the_source_tree_says_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = motive.__version__
    monkeypatch.setattr("importlib.metadata.distribution", _not_installed)
    assert motive.__version__ == installed


def _not_installed(name: str) -> None:
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'motive' has no attribute 'nothing'"):
        _ = motive.nothing
