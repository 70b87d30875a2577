"""The house holds together: one name in five places, and a pipeline that DVC can read."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from motive import cli

ROOT = Path(__file__).parents[1]
NO_STAGE = {"workers", "ray", "shards", "model"}  # sections of params.yaml that several stages share


def read_yaml(name: str) -> dict:
    return YAML(typ="safe").load((ROOT / name).read_text())


def names(stage: dict) -> list[str]:
    """The sections of params.yaml a stage of dvc.yaml depends on."""
    return [key for key in stage.get("params", []) if isinstance(key, str)]


STAGES = read_yaml("dvc.yaml")["stages"]
TEMPLATES = {name: stage.get("do", stage) for name, stage in STAGES.items()}


def test_a_stage_has_one_name_everywhere():
    files = {path.stem for path in (ROOT / "src/motive/stages").glob("*.py")} - {"__init__"}
    assert set(STAGES) == set(read_yaml("params.yaml")) - NO_STAGE
    assert set(STAGES) == files
    assert set(STAGES) == {*cli.SPLIT_STAGES, *cli.STAGES}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_stage_runs_its_own_command_into_its_own_folder(name):
    stage = TEMPLATES[name]
    outs = [*stage.get("outs", []), *stage.get("metrics", [])]
    paths = [out if isinstance(out, str) else next(iter(out)) for out in outs]
    assert stage["cmd"].split()[:2] == ["motive", name]
    assert paths
    assert all(name in Path(path).parts[1:3] and path.startswith("data/") for path in paths)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_stage_depends_on_its_own_parameters_and_on_none_that_is_missing(name):
    params = read_yaml("params.yaml")
    assert name in names(TEMPLATES[name])
    for key in names(TEMPLATES[name]):
        value = params
        for word in key.split("."):
            assert word in value, f"{name} depends on {key}, which params.yaml does not have"
            value = value[word]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_stage_is_given_the_sections_that_dvc_yaml_declares_and_no_other(name):
    """One that it reads undeclared would leave stale results behind."""
    given = set(inspect.signature(import_module(f"motive.stages.{name}").run).parameters)
    if given == {"params"}:  # every parameter that decides a result
        given = set(read_yaml("params.yaml")) - {"workers", "ray", "shards"}
    assert given - {"split", "machine"} == {key.replace(".", "_") for key in names(TEMPLATES[name])}


def test_all_profiles_have_the_keys_of_params_yaml():
    for profile in (ROOT / "profiles").glob("*.yaml"):
        assert set(YAML(typ="safe").load(profile.read_text())) == set(read_yaml("params.yaml")), profile.name


def test_dvc_reads_the_pipeline():
    dag = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert dag.returncode == 0, dag.stderr
    assert '"evaluation" -> "record"' in dag.stdout
    assert all(f'"{name}' in dag.stdout for name in STAGES)


def test_there_is_no_room_for_odds_and_ends():
    odd = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [path for path in (ROOT / "src").rglob("*.py") if path.name in odd]


def test_where_things_lie_is_written_once():
    """In store/layout.py: what lies below `data` and `.motive` is asked of it."""
    places = re.compile(r"""Path\(["'](data|\.motive)\b""")
    files = [path for folder in ("src/motive", "flows") for path in (ROOT / folder).rglob("*.py")]
    assert not [path.name for path in files if places.search(path.read_text())]


def test_the_lock_names_versions_and_no_places():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and "/" not in line and "+" not in line for line in lines)
    assert "torch==2.13.0" in lines
