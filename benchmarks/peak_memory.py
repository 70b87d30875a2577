"""How much memory do the stages take that read a long video? Numbers for docs/benchmarks.md.

    python benchmarks/peak_memory.py --json peak_memory.json

Writes ten minutes of 1920 x 1080, reads them as the stages do, and adds up what all their processes hold.
"""

import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from testing.commands import COMMAND
from testing.measuring import JsonFile, peak_mb, report
from testing.whole_project import write_clips_params

# What the optical_flow stage loads: its own imports, and what its gate needs to check a table.
LIBRARIES = """
import motive.stages.optical_flow, pandas
from motive.checks import check
check("finetuning", pandas.DataFrame({"step": [0], "loss": [1.0], "learning_rate": [1.0]}), num_steps=1)
"""


def main(
    json_file: JsonFile = None,
    minutes: Annotated[float, typer.Option(help="Length of the video.")] = 10.0,
) -> None:
    """Measure both stages on one long video, and print their peaks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_frames = write_long_video(folder / "pool" / "long.mp4", minutes)
        report({"num_frames": num_frames} | measure(folder), json_file)


def measure(folder: Path) -> dict[str, float]:
    """The peaks of `motive clips`, as one clip and cut at shots, and of optical_flow on that one clip.

    `peak_mb_long_file` is the larger of clips' two. What optical_flow's libraries alone take is beside it.
    """
    clips = [*COMMAND, "clips", "pool"]
    write_clips_params(folder, {"pool": "pool"})
    whole = peak_mb(clips, folder)
    optical_flow = peak_mb([*COMMAND, "optical_flow", "pool"], folder)
    write_clips_params(folder, {"pool": "pool"}, cut="shots")
    at_shots = peak_mb(clips, folder)
    return {
        "peak_mb_long_file": max(whole, at_shots),
        "peak_mb_long_file_whole": whole,
        "peak_mb_long_file_optical_flow": optical_flow,
        "peak_mb_optical_flow_libraries": peak_mb([sys.executable, "-c", LIBRARIES], folder),
    }


def write_long_video(path: Path, minutes: float, fps: int = 24) -> int:
    """Write a video of 1920 x 1080 whose content moves sideways; returns its number of frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = sliding_frames()
    num_frames = int(minutes * 60 * fps)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "32", "preset": "ultrafast"})
        stream.width = 1920
        stream.height = 1080
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            frame = frames[number % len(frames)]
            frame.pts = number
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return num_frames


def sliding_frames() -> list[av.VideoFrame]:
    """Sixty windows of 1920 x 1080 on a wider image, each eight pixels further right."""
    rows, columns = np.mgrid[:1080, : 1920 + 480]
    wide = np.stack([rows % 256, columns % 256, (rows // 8 + columns // 8) % 2 * 255], -1).astype(np.uint8)
    windows = [np.ascontiguousarray(wide[:, x : x + 1920]) for x in range(0, 480, 8)]
    return [av.VideoFrame.from_ndarray(w, format="rgb24").reformat(format="yuv420p") for w in windows]


if __name__ == "__main__":
    typer.run(main)
