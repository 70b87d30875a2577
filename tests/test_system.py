"""What a stage costs is sampled beside it: whole at any time, and never in its way."""

import json
import subprocess
import sys
import time
from pathlib import Path
from threading import active_count

import pytest

from motive.params import Params, load_params
from motive.recording import system

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NAMES = {
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}
START = f"""
import time
from pathlib import Path
from motive.recording import system
from motive.params import load_params
params = load_params(Path({str(ROOT / "params.yaml")!r}))
"""


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(system, "INTERVAL", 0.05)
    monkeypatch.delenv("RANK", raising=False)
    return load_params(ROOT / "params.yaml")


def other(params: Params, section: str, **values: object) -> Params:
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def test_splits_are_read_together_in_the_order_of_time(params):
    for split in ("queries", "pool"):
        with system.sampled(f"masks@{split}", params):
            time.sleep(0.3)
    samples, seconds = system.read_samples("masks", params)
    assert all(sample.keys() == NAMES | {"time"} for sample in samples)
    assert all(0 <= sample["system/system_memory_usage_percentage"] <= 100 for sample in samples)
    assert [sample["time"] for sample in samples] == sorted(sample["time"] for sample in samples)
    assert len(samples) >= 4
    assert 0.6 <= seconds < 10


def test_samples_of_other_parameters_are_left_out(params):
    with system.sampled("masks@pool", params):
        pass
    assert system.read_samples("masks", other(params, "masks", floor=1.0)) == ([], 0)
    assert system.read_samples("masks", other(params, "clips", fps=5.0)) == ([], 0)
    assert system.read_samples("masks", other(params, "curation", fraction=0.2))[0]  # comes after
    assert system.read_samples("masks", params.model_copy(update={"workers": 7}))[0]  # changes no result


def test_however_long_it_takes_the_file_stays_small(params, monkeypatch):
    monkeypatch.setattr(system, "MAX_SAMPLES", 8)
    monkeypatch.setattr(system, "INTERVAL", 0.01)
    with system.sampled("latents@pool", params):
        time.sleep(1)
    samples, seconds = system.read_samples("latents", params)
    assert 4 <= len(samples) < 8
    assert seconds >= 1


def test_an_error_ends_the_sampling_and_is_the_stages_own(params):
    before = active_count()
    with pytest.raises(ValueError, match="too dark"), system.sampled("curation", params):
        raise ValueError("too dark")
    assert active_count() == before
    assert system.read_samples("curation", params)[0]


def test_of_several_processes_that_train_one_looks(params, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with system.sampled("finetuning", params):
        pass
    assert not system.FOLDER.exists()


def test_a_kill_at_any_time_leaves_a_whole_file_and_no_heap(params):
    code = START + (
        "system.INTERVAL = 0.0005\n"
        "with system.sampled('masks@pool', params):\n"
        "    print('at it', flush=True)\n"
        "    time.sleep(60)\n"
    )
    path = system.FOLDER / "masks@pool.json"
    for wait in (0.31, 0.37, 0.43, 0.53):
        running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert running.stdout
        with running.stdout:
            running.stdout.readline()
            time.sleep(wait)
            running.kill()
            running.wait()
        assert json.loads(path.read_text())["samples"]
        assert len(list(system.FOLDER.iterdir())) <= 2


def test_it_keeps_no_process_alive(params):
    code = START + "system.sampled('curation', params).__enter__()\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_nvidias_library_or_driver_there_are_no_gpus(params):
    cuda = other(params, "model", device="cuda")
    with system.sampled("latents@pool", cuda):
        pass
    assert system.read_samples("latents", cuda)[0]
