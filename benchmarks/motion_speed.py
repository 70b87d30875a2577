"""How fast is the optical flow stage against bare decoding and DIS, and how much memory takes a long film?"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peak_memory import clips_command, peak_mb, write_long_film, write_params
from motive import per_clip
from motive.clips.videos import ClipVideo
from motive.params import Params
from motive.stages import optical_flow
from motive.trackers.interface import load_tracker
from motive.video.reading import stream_frames
from motive.workers.deal import deal
from testing.real_clips import real_clip

SIZE = {"num_frames": 33, "fps": 16.0, "height": 480, "width": 832, "resample": "window"}
STRIDE = 8
PARTS = [  # clips, and where in them
    *[("walker.mp4", start) for start in (0.0, 1.0, 2.5, 4.0)],
    *[("city.mpg", start) for start in (0.0, 1.2, 4.5)],
    *[("bikes.mp4", start) for start in (0.0, 3.0, 6.0)],
    *[("bunny.mp4", start) for start in (0.0, 2.0)],
]
ROUNDS = 3
CHUNKS = 72


def measure(params: Params) -> dict[str, float]:
    """`throughput_ratio` of one process, `scaling_2_processes`, and the memory that a long film takes.

    Bare is what a script does: decode to RGB, make it grey, call DIS. The stage reads the luma alone where
    DIS is its tracker; `throughput_ratio_luma` is against a script that does too.
    """
    settings = params.optical_flow.model_dump() | {"stride": STRIDE}
    once, luma, twice = [], [], []
    for _ in range(ROUNDS):  # by turns, so that what else the machine does hits all
        whole = seconds(partial(stage_all, settings))
        once.append(seconds(partial(bare_all, settings)) / whole)
        luma.append(seconds(partial(bare_all, settings, grey=True)) / whole)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            alone = seconds(partial(bare_many, settings))
            twice.append(alone / seconds(partial(stage_many, params, settings, Path(folder))))
    return {
        "throughput_ratio": float(np.median(once)),
        "throughput_ratio_worst": min(once),
        "throughput_ratio_luma": float(np.median(luma)),
        "scaling_2_processes": float(np.median(twice)),
        "scaling_2_processes_worst": min(twice),
        **memory(),
    }


def seconds(work: Callable[[], None]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def frames_of(part: tuple[str, float], grey: bool = False) -> Iterator[np.ndarray]:
    """The frames of a piece of a real clip."""
    how: Any = {**SIZE, "start": part[1], "end": part[1] + SIZE["num_frames"] / SIZE["fps"]}
    return stream_frames(real_clip(part[0]), **how, grey=grey)


def bare(part: tuple[str, float], preset: str, grey: bool = False) -> None:
    """Decode, and OpenCV's DIS between adjacent frames: nothing else."""
    presets = {"ultrafast": 0, "fast": 1, "medium": 2}
    tracker, before = cv2.DISOpticalFlow.create(presets[preset]), None
    for frame in frames_of(part, grey):
        after = frame if grey else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if before is not None:
            tracker.calc(before, after, None)  # type: ignore[call-overload]
        before = after


def bare_all(settings: dict[str, Any], grey: bool = False) -> None:
    """Every piece once, bare."""
    for part in PARTS:
        bare(part, settings["preset"], grey)


def stage_all(settings: dict[str, Any]) -> None:
    """Every piece once, as the stage does it: camera, residual and coarse grid too."""
    tracker = load_tracker(settings)
    for part in PARTS:
        per_clip.optical_flow(
            frames_of(part, grey=True),
            tracker,
            reference=settings["reference"],
            stride=settings["stride"],
            fps=float(SIZE["fps"]),
        )


def pieces() -> list[tuple[str, float]]:
    """Pieces for many chunks of work."""
    return list(islice(cycle(PARTS), 12 * len(PARTS)))


def bare_many(settings: dict[str, Any]) -> None:
    """Many pieces, bare, in this process."""
    for part in pieces():
        bare(part, settings["preset"])


def stage_many(params: Params, settings: dict[str, Any], folder: Path) -> None:
    """The same pieces by the stage's own work in two processes, their start and their files counted."""
    sized = params.clips.model_copy(update=SIZE)
    here = params.model_copy(
        update={"clips": sized, "optical_flow": params.optical_flow.model_copy(update={"stride": STRIDE})}
    )
    todo = pieces()
    jobs = [ClipVideo(f"{n:016x}", real_clip(name), span(start), "") for n, (name, start) in enumerate(todo)]
    size = -(-len(jobs) // CHUNKS)
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with chdir(folder):
        recipe = optical_flow.make_recipe(here.clips, here.optical_flow)
        work = partial(optical_flow.make_chunk, recipe, here.clips, here.optical_flow)
        deal(work, chunks, 2, total=len(jobs), label="two processes")


def span(start: float) -> dict[str, float]:
    """A piece's place in its file."""
    return {"start": start, "end": start + float(SIZE["num_frames"]) / float(SIZE["fps"])}


def memory() -> dict[str, float]:
    """The peaks on ten minutes of 1080p: `motive clips`, as one clip and cut at shots, and optical_flow.

    `peak_mb_long_file` is the larger of clips' two. What optical_flow's libraries alone take is beside it.
    """
    run = [sys.executable, "-c"]
    flow = [*run, "from motive.cli import main; main()", "optical_flow", "pool"]
    libraries = [*run, "import motive.stages.optical_flow, motive.checks; motive.checks._library()"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_long_film(folder / "pool" / "long.mp4")
        write_params(folder)
        whole, tracked = peak_mb(clips_command(), folder), peak_mb(flow, folder)
        params = folder / "params.yaml"
        params.write_text(params.read_text().replace("cut: whole", "cut: shots"))
        return {
            "peak_mb_long_file": max(whole, peak_mb(clips_command(), folder)),
            "peak_mb_long_file_whole": whole,
            "peak_mb_long_file_optical_flow": tracked,
            "peak_mb_optical_flow_libraries": peak_mb(libraries, folder),
        }
