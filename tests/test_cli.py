"""The command starts fast and its errors are for people."""

import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from motive.allowed import explain
from motive.cli import SPLIT_STAGES, STAGES, app
from motive.options import DEVICE_KEYS, DTYPE_KEYS, Settings, load
from motive.params import load_params
from testing.commands import motive

ROOT = Path(__file__).parents[1]
ASKED = ("append", "query", "show", "validate", "params")
SLOW = {
    "torch",
    "pandas",
    "mlflow",
    "prefect",
    "great_expectations",
    "diffusers",
    "transformers",
    "cv2",
    "pydantic",
}


def test_nothing_slow_is_imported_before_the_first_line():
    code = f"import sys, motive.cli; print(*({SLOW!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_stage_says_first_what_it_does(tmp_path):
    done = motive("masks", "pool", cwd=tmp_path)
    assert "masks pool" in done.stderr.splitlines()[0]


def test_a_users_error_is_a_message_and_no_traceback(tmp_path):
    done = motive("attribution", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: params.yaml is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_too(tmp_path):
    done = motive("--debug", "attribution", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "error: params.yaml is missing" in done.stderr


def test_a_wrong_parameter_is_named(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("  floor: 3.0", "  flor: 3.0")
    (tmp_path / "params.yaml").write_text(text)
    done = motive("params", cwd=tmp_path)
    assert done.returncode == 1
    assert "masks.flor" in done.stderr


def test_device_and_dtype_are_for_once_and_checked_like_the_file(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for option, value, message in (
        ("--device", "gpu", "model.device is 'gpu': allowed: cpu | cuda | cuda:N"),
        ("--dtype", "float8", "model.dtype is 'float8': allowed: float32 | bfloat16 | float16"),
    ):
        for arguments in ([option, value, "sketches", "pool"], ["sketches", "pool", option, value]):
            done = motive(*arguments, cwd=tmp_path)
            assert done.returncode == 1
            assert message in done.stderr
    assert load_params(ROOT / "params.yaml", {"model.device": "cuda:1"}).model.device == "cuda:1"
    assert load_params(ROOT / "params.yaml").model.device == "cpu"


@pytest.mark.parametrize("command", [*SPLIT_STAGES, *STAGES, *ASKED])
@pytest.mark.parametrize(("option", "value"), [("device", "cuda:7"), ("dtype", "float16")])
def test_every_command_honours_device_and_dtype_or_refuses_them(command, option, value):
    """Never read and forgotten: `motive --device cuda:7 clips pool` would seem to use that GPU."""
    context = typer.Context(get_command(app), info_name=command, obj=Settings(ROOT / "params.yaml"))
    keys = {"device": DEVICE_KEYS, "dtype": DTYPE_KEYS}[option].get(command, [])
    takes = {parameter.name for parameter in get_command(app).commands[command].params}  # pyright: ignore
    assert (option in takes) == bool(keys)
    setattr(context.obj, option, value)
    if not keys:
        with pytest.raises(ValueError, match=f"--{option} {value}: `motive {command}` has no use for it"):
            load(context)
    elif (command, option) not in {("finetuning", "device"), ("optical_flow", "device")}:
        params = load(context)
        for section, key in (key.split(".") for key in keys):
            assert getattr(getattr(params, section), key) == value


def test_a_gpu_that_would_not_be_used_is_refused():
    done = motive("finetuning", "--device", "cuda:1")
    assert done.returncode == 1
    assert "CUDA_VISIBLE_DEVICES=1" in done.stderr
    done = motive("optical_flow", "pool", "--device", "cuda")
    assert done.returncode == 1
    assert "optical_flow.tracker dis runs on the CPU" in done.stderr


def test_the_device_of_optical_flow_is_its_own(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace("tracker: dis ", "tracker: raft ")
    (tmp_path / "params.yaml").write_text(text.replace('weights: "" ', "weights: raft.pth "))
    settings = Settings(tmp_path / "params.yaml", device="cuda:7")
    params = load(typer.Context(get_command(app), info_name="optical_flow", obj=settings))
    assert params.optical_flow.device == "cuda:7"
    assert params.model.device == "cpu"


def test_a_split_that_is_not_there_is_named_with_those_that_are():
    done = motive("masks", "pol")
    assert done.returncode == 1
    assert "error: split 'pol': allowed: pool | queries | heldout (clips.source)" in done.stderr


def test_root_is_the_project_and_params_another_file_in_it(tmp_path):
    (tmp_path / "mine.yaml").write_text((ROOT / "params.yaml").read_text().replace("dim: 16384", "dim: 512"))
    done = motive("--root", str(tmp_path), "--params", "mine.yaml", "params")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "sketches.dim" in line)
    assert "512" in line
    assert motive("--root", str(tmp_path / "no"), "params").returncode == 2


def test_version():
    assert motive("--version").stdout.strip() == f"motive {version('motive')}"


def test_params_explains_every_key():
    done = motive("params")
    assert done.returncode == 0, done.stderr
    assert [row.key for row in explain(load_params(ROOT / "params.yaml")) if row.key not in done.stdout] == []


def test_help_begins_with_the_pipeline_in_its_order():
    commands = list(get_command(app).commands)  # pyright: ignore
    assert commands == [*SPLIT_STAGES, *STAGES, *ASKED]
    text = motive("--help").stdout
    places = [text.index(f" {command} ") for command in commands]
    assert places == sorted(places)
    assert "--install-completion" in text


@pytest.mark.parametrize("command", [*SPLIT_STAGES, *STAGES, *ASKED])
def test_each_help_has_an_example_and_says_what_an_option_is_without_it(command):
    done = motive(command, "--help")
    assert done.returncode == 0
    (example,) = (line.strip() for line in done.stdout.splitlines() if line.strip().startswith("Example: "))
    assert shlex.split(example)[1] == "motive"
    assert command in shlex.split(example)
    for parameter in get_command(app).commands[command].params:  # pyright: ignore
        if parameter.required or parameter.default in (False, "") or parameter.name == "help":
            continue
        assert parameter.show_default, parameter.name
