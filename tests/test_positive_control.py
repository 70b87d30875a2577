"""The positive control, small and on an untrained model: it draws twins, trains on them and measures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testing.tiny import ROOT, small_params
from testing.tiny_backbones import write_backbone
from testing.whole_project import write_yaml

pytestmark = pytest.mark.slow


def test_twins_are_drawn_trained_on_and_measured(tmp_path):
    write_backbone("ti2v-5b", tmp_path / "model")
    params = small_params(
        model={"condition": "first_frame"},
        clips={"num_frames": 9, "fps": 8.0, "height": 64, "width": 64},
        finetuning={"batch_size": 2, "learning_rate": 1e-2},
    )
    write_yaml(tmp_path / "params.yaml", params.model_dump(mode="json"))
    script = ROOT / "benchmarks/positive_control.py"
    options = ["--seeds", "2", "--clips-per-motion", "1", "--heldout-per-motion", "1", "--steps", "2"]
    command = [sys.executable, str(script), *options, "--json", "numbers.json"]

    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["num_seeds"] == 2
    assert numbers["num_clips"] >= 5
    for name in ("loss", "physical", "holds"):
        low, mean, high = (numbers[f"{name}_true_minus_false{end}"] for end in ("_low", "", "_high"))
        assert np.isfinite([low, mean, high]).all()
        assert low <= mean <= high
        assert mean == pytest.approx(numbers[f"{name}_true"] - numbers[f"{name}_false"])

    drawn = sorted(path.name for path in Path(tmp_path).rglob("twins/pool/*.mp4"))
    assert drawn == sorted(f"{side}_{index:03d}.mp4" for side in ("true", "false") for index in range(10))
    (tmp_path / "numbers.json").unlink()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert "0/2" not in again.stderr  # no training begins
