"""The command starts fast and its errors are for people."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from motive.params import explain, load_params

ROOT = Path(__file__).parents[1]
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
COMMAND = [sys.executable, "-c", "from motive.cli import main; main()"]


def motive(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


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
    for option, value, said in (
        ("--device", "gpu", "model.device is 'gpu'"),
        ("--dtype", "float8", "model.dtype is 'float8': allowed: float32 | bfloat16 | float16"),
    ):
        done = motive(option, value, "sketches", "pool", cwd=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
    assert load_params(ROOT / "params.yaml", device="cuda:1").model.device == "cuda:1"
    assert load_params(ROOT / "params.yaml").model.device == "cpu"


def test_params_explains_every_key():
    done = motive("params")
    assert done.returncode == 0, done.stderr
    assert [row.key for row in explain(load_params(ROOT / "params.yaml")) if row.key not in done.stdout] == []


@pytest.mark.parametrize("arguments", [["--help"], ["clips", "--help"]])
def test_help(arguments):
    assert motive(*arguments).returncode == 0
