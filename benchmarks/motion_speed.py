"""How fast is the optical flow stage against bare decoding and DIS?"""

import tempfile
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple

import cv2
import numpy as np

from motive import per_clip
from motive.clips.videos import ClipVideo
from motive.params import Params
from motive.stages import optical_flow
from motive.trackers.interface import load_tracker
from motive.video.reading import stream_frames
from motive.workers.deal import deal
from testing.measuring import seconds
from testing.real_clips import real_clip

SIZE = {"num_frames": 33, "fps": 16.0, "height": 480, "width": 832, "resample": "window"}
STRIDE = 8
PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}  # OpenCV's numbers
ROUNDS = 3
CHUNK = 2  # pieces


class Piece(NamedTuple):
    """A clip, and where in it a piece begins (seconds)."""

    clip: str
    start: float

    @property
    def span(self) -> dict[str, float]:
        """Where it begins and ends in its file, in seconds."""
        return {"start": self.start, "end": self.start + float(SIZE["num_frames"]) / float(SIZE["fps"])}

    def frames(self, grey: bool = False) -> Iterator[np.ndarray]:
        return stream_frames(real_clip(self.clip), **SIZE, **self.span, grey=grey)  # type: ignore[arg-type]


PIECES = [
    *[Piece("walker.mp4", start) for start in (0.0, 1.0, 2.5, 4.0)],
    *[Piece("city.mpg", start) for start in (0.0, 1.2, 4.5)],
    *[Piece("bikes.mp4", start) for start in (0.0, 3.0, 6.0)],
    *[Piece("bunny.mp4", start) for start in (0.0, 2.0)],
]
MANY = list(islice(cycle(PIECES), 12 * len(PIECES)))  # for many chunks of work


def measure(params: Params) -> dict[str, float]:
    """`throughput_ratio` of one process and `scaling_2_processes`.

    Bare is what a script does: decode to RGB, make it grey, call DIS. The stage reads the luma alone where
    DIS is its tracker; `throughput_ratio_luma` is against a script that does too.
    """
    settings = params.optical_flow.model_dump() | {"stride": STRIDE}
    preset = params.optical_flow.preset
    once: list[float] = []
    luma: list[float] = []
    twice: list[float] = []
    for _ in range(ROUNDS):  # by turns, so that what else the machine does hits all
        whole = seconds(partial(stage_all, settings))
        once.append(seconds(partial(bare, PIECES, preset)) / whole)
        luma.append(seconds(partial(bare, PIECES, preset, grey=True)) / whole)
    for _ in range(ROUNDS):
        alone = seconds(partial(bare, MANY, preset))
        twice.append(alone / seconds(partial(stage_many, params)))
    return {
        "throughput_ratio": float(np.median(once)),
        "throughput_ratio_worst": min(once),
        "throughput_ratio_luma": float(np.median(luma)),
        "scaling_2_processes": float(np.median(twice)),
        "scaling_2_processes_worst": min(twice),
    }


def bare(pieces: list[Piece], preset: str, grey: bool = False) -> None:
    """Decode, and OpenCV's DIS between adjacent frames: nothing else."""
    for piece in pieces:
        tracker = cv2.DISOpticalFlow.create(PRESETS[preset])
        before = None
        for frame in piece.frames(grey):
            after = frame if grey else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if before is not None:
                tracker.calc(before, after, None)  # type: ignore[call-overload]
            before = after


def stage_all(settings: dict[str, Any]) -> None:
    """Every piece once, as the stage does it: camera, residual and coarse grid too."""
    tracker = load_tracker(settings)
    for piece in PIECES:
        per_clip.optical_flow(
            piece.frames(grey=True),
            tracker,
            reference=settings["reference"],
            stride=settings["stride"],
            fps=float(SIZE["fps"]),
        )


def stage_many(params: Params) -> None:
    """Many pieces by the stage's own work in two processes, their start and their files counted."""
    clips = params.clips.model_copy(update=SIZE)
    settings = params.optical_flow.model_copy(update={"stride": STRIDE})
    videos = [
        ClipVideo(f"{number:016x}", real_clip(piece.clip), piece.span, "")
        for number, piece in enumerate(MANY)
    ]
    chunks = [videos[start : start + CHUNK] for start in range(0, len(videos), CHUNK)]
    recipe = optical_flow.make_recipe(clips, settings)
    work = partial(optical_flow.make_chunk, recipe, clips, settings)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        deal(work, chunks, 2, total=len(videos), label="two processes")
