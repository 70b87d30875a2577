"""What a stage costs: CPU, memory and GPUs while it runs, kept beside the work for `record`."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from motive.params import Params
from motive.store.hashes import values_digest
from motive.store.layout import state_folder

FOLDER = state_folder() / "system"  # outside DVC's outs: times change when the data does not
INTERVAL = 5.0  # seconds between two samples, at first
MAX_SAMPLES = 1000  # then every other one goes and the interval doubles: a day is as small as an hour
MACHINE = {"workers", "ray", "shards", "record"}  # parameters that change no result

Sample = dict[str, float]  # MLflow's name of the number -> value; and `time`, seconds since 1970


@contextmanager
def sampled(name: str, params: Params) -> Iterator[None]:
    """Sample while the block runs, into .motive/system/NAME.json; `name` is DVC's, e.g. masks@pool.

    The file is whole at any time, so a kill costs the last seconds only.
    """
    if os.environ.get("RANK", "0") != "0":  # fine-tuning is several processes: the first one looks
        yield
        return
    over = Event()
    thread = Thread(target=_watch, args=(name, params, time.time(), over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(INTERVAL)


def _watch(name: str, params: Params, start: float, over: Event) -> None:
    interval = INTERVAL
    look = _looker(params.model.device)
    samples: list[Sample] = []
    ended = False
    while not ended:
        ended = over.wait(interval)
        samples.append({"time": time.time(), **look()})
        if len(samples) == MAX_SAMPLES:
            samples = samples[1::2]
            interval *= 2
        _write(name, {"params": recipe(name, params), "start": start, "samples": samples})


def _write(name: str, content: dict) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = FOLDER / f".{name}.json"  # not by `aside`, one name: what a kill leaves is written over
    place.write_text(json.dumps(content))
    place.replace(FOLDER / f"{name}.json")


def _looker(device: str) -> Callable[[], Sample]:
    import psutil

    psutil.cpu_percent()  # the first call has nothing to compare with
    look_at_gpus = _gpu_looker() if device.startswith("cuda") else dict

    def look() -> Sample:
        memory = psutil.virtual_memory()
        return {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": round(memory.used / 1e6, 1),
            "system/system_memory_usage_percentage": round(memory.used / memory.total * 100, 1),
            **look_at_gpus(),
        }

    return look


def _gpu_looker() -> Callable[[], Sample]:
    """What looks at each GPU; at none without NVIDIA's library or driver."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        return dict
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return dict

    def look() -> Sample:
        sample: Sample = {}
        for number in range(pynvml.nvmlDeviceGetCount()):
            sample |= _gpu_sample(pynvml, number)
        return sample

    return look


def _gpu_sample(nvml: Any, number: int) -> Sample:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        f"system/gpu_{number}_memory_usage_megabytes": round(memory.used / 1e6, 1),
        f"system/gpu_{number}_memory_usage_percentage": round(memory.used / memory.total * 100, 1),
        f"system/gpu_{number}_utilization_percentage": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
    }


# ---- read again, by `record`


def decisive(params: Params) -> dict[str, Any]:
    """The parameters that change a result."""
    return {name: value for name, value in params.model_dump().items() if name not in MACHINE}


def recipe(name: str, params: Params) -> str:
    """16 hex digits of the decisive parameters of a stage and of all before it."""
    stage = name.split("@")[0]
    sections = decisive(params)
    order = list(sections)
    if stage in order:
        order = order[: order.index(stage) + 1]
    return values_digest({section: sections[section] for section in order})


def read_samples(stage: str, params: Params) -> tuple[list[Sample], float]:
    """Samples of a stage's last run and its seconds, splits together; those of other parameters are not."""
    samples: list[Sample] = []
    seconds = 0.0
    for path in [FOLDER / f"{stage}.json", *sorted(FOLDER.glob(f"{stage}@*.json"))]:
        run = json.loads(path.read_text()) if path.is_file() else {}
        if run.get("params") == recipe(stage, params):
            samples += run["samples"]
            seconds += run["samples"][-1]["time"] - run["start"]
    return sorted(samples, key=lambda sample: sample["time"]), seconds
