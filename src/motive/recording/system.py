"""What a stage costs: CPU, memory and cards while it runs, kept beside the work for `record`."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from motive.params import Params
from motive.store.files import write_text
from motive.store.hashes import values_digest

FOLDER = Path(".motive/system")  # outside DVC's outs: times change when the data does not
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
    interval, look = INTERVAL, _looker(params.model.device)
    samples: list[Sample] = []
    ended = False
    while not ended:
        ended = over.wait(interval)
        samples.append({"time": time.time(), **look()})
        if len(samples) == MAX_SAMPLES:
            samples, interval = samples[1::2], 2 * interval
        _write(name, {"params": recipe(name, params), "start": start, "samples": samples})


def _write(name: str, content: dict) -> None:
    write_text(FOLDER / f"{name}.json", json.dumps(content))


def _looker(device: str) -> Callable[[], Sample]:
    import psutil

    psutil.cpu_percent()  # the first call has nothing to compare with
    cards = _cards() if device.startswith("cuda") else None

    def look() -> Sample:
        memory = psutil.virtual_memory()
        return {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": round(memory.used / 1e6, 1),
            "system/system_memory_usage_percentage": round(memory.used / memory.total * 100, 1),
            **(cards() if cards else {}),
        }

    return look


def _cards() -> Callable[[], Sample] | None:
    """What looks at each card; None without NVIDIA's library or driver."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
    return lambda: {key: value for n, handle in enumerate(handles) for key, value in _card(pynvml, n, handle)}


def _card(nvml: Any, number: int, handle: Any) -> Iterator[tuple[str, float]]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    yield f"system/gpu_{number}_memory_usage_megabytes", round(memory.used / 1e6, 1)
    yield f"system/gpu_{number}_memory_usage_percentage", round(memory.used / memory.total * 100, 1)
    yield f"system/gpu_{number}_utilization_percentage", nvml.nvmlDeviceGetUtilizationRates(handle).gpu


# ---- read again, by `record`


def decisive(params: Params) -> dict[str, Any]:
    """The parameters that change a result."""
    return {name: value for name, value in params.model_dump().items() if name not in MACHINE}


def recipe(name: str, params: Params) -> str:
    """16 hex digits of the decisive parameters of a stage and of all before it."""
    stage, sections = name.split("@")[0], decisive(params)
    order = list(sections)
    known = order[: order.index(stage) + 1] if stage in order else order
    return values_digest({section: sections[section] for section in known})


def read_samples(stage: str, params: Params) -> tuple[list[Sample], float]:
    """Samples of a stage's last run and its seconds, parts together; those of other parameters are not."""
    paths = [FOLDER / f"{stage}.json", *sorted(FOLDER.glob(f"{stage}@*.json"))]
    found = [json.loads(path.read_text()) for path in paths if path.is_file()]
    found = [run for run in found if run["params"] == recipe(stage, params)]
    samples = sorted((sample for run in found for sample in run["samples"]), key=lambda each: each["time"])
    return samples, sum(run["samples"][-1]["time"] - run["start"] for run in found)
