"""A chart of falls: how far objects have fallen in the videos of each model, beside gravity's parabola."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motive.store.files import read_table
from motive.video.reading import probe, read_frames
from toyworld.measures.motion import path_of
from toyworld.measures.objects import appearance, find_object

GRAVITY = 80.0  # px/s^2, as `staging.stage_free_fall` draws it, on the average
COLOURS = {"base": "tab:red", "tuned": "tab:blue", "true clips": "tab:gray"}

Array = NDArray[np.float64]
log = logging.getLogger("motive")


def is_of_fall(caption: str) -> bool:
    """Whether a caption of this world names a fall."""
    looks = appearance(caption)
    return looks is not None and looks.motion == "free_fall"


def fallen(frames: NDArray[np.uint8], caption: str) -> Array:
    """Pixels that the object of a fall has fallen in each frame u8 [F,H,W,3]."""
    looks = appearance(caption)
    assert looks is not None
    height = path_of(find_object(frames, looks)).centre[:, 1]
    return height - height[0]


def draw_falls(path: Path, falls: dict[str, list[Array]], fps: float) -> None:
    """Draw some falls of each model, and the parabola, as far as the deepest of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, lines in falls.items():
        for number, line in enumerate(lines):
            label = name if number == 0 else None
            axes.plot(np.arange(len(line)) / fps, line, color=COLOURS[name], alpha=0.6, label=label)
    deepest = max(float(line.max()) for lines in falls.values() for line in lines)
    times = np.linspace(0, np.sqrt(2 * deepest / GRAVITY), 50)
    axes.plot(times, GRAVITY * times**2 / 2, color="black", linestyle="--", label="gravity")
    axes.set(xlabel="seconds", ylabel="pixels fallen", title="Falls from the same first frames")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_generated_falls(evaluation: Path, out: Path) -> None:
    """Draw the falls among the generated videos that the stage `evaluation` left in its folder.

    Raises:
        ValueError: no prompt is of a fall, or nothing has been evaluated.
    """
    table = evaluation / "videos.parquet"
    if not table.is_file():
        raise ValueError(f"{table} is missing: run `dvc repro` first")
    falls: dict[str, list[Array]] = {}
    for row in read_table(table).to_dict("records"):
        if is_of_fall(row["prompt"]):
            path = Path(row["video"])
            shown = probe(path)
            fps = shown.fps
            frames = read_frames(path, shown.num_frames, fps, shown.height, shown.width, "window")
            falls.setdefault(row["model"], []).append(fallen(frames, row["prompt"]))
    if not falls:
        raise ValueError(f"{table}: no prompt is of a fall in the rendered world")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_falls(out, falls, fps)
    log.info("falls: %d videos of falls are drawn in %s", sum(map(len, falls.values())), out)
