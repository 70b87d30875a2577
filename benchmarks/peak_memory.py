"""How much memory does a command take? And: `motive clips` of a long film. Numbers for docs/benchmarks.md.

    python benchmarks/peak_memory.py --json peak_memory.json

Writes ten minutes of 1920 x 1080, reads them as the stage does, and adds up what all its processes hold.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer

ROOT = Path(__file__).parents[1]


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    minutes: Annotated[float, typer.Option(help="Length of the film.")] = 10.0,
) -> None:
    """Measure the clips stage on one long film, and print its peak."""
    with tempfile.TemporaryDirectory() as folder:
        num_frames = write_long_film(Path(folder) / "pool" / "long.mp4", minutes)
        write_params(Path(folder))
        start = time.monotonic()
        peak = peak_mb(clips_command(), Path(folder))
        numbers = {
            "peak_mb_long_file": round(peak, 1),
            "num_frames": num_frames,
            "seconds": round(time.monotonic() - start, 1),
        }
    print(json.dumps(numbers, indent=1))
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def peak_mb(command: Sequence[str], folder: Path | None = None, every: float = 0.05) -> float:
    """The largest sum of memory that a command's processes hold (PSS: shared pages count once); Linux only.

    Raises:
        ValueError: the command fails.
    """
    peak = 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, sum(map(pss, family(process.pid))))
            time.sleep(every)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")[-2000:]
            raise ValueError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return peak / 1e6


def family(pid: int) -> list[int]:
    """A process and all below it, as far as they live."""
    found = [pid]
    for parent in found:  # grows meanwhile
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, listed.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def pss(pid: int) -> int:
    """Bytes that a process holds, its part of what it shares; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def write_long_film(path: Path, minutes: float = 10.0, fps: int = 24) -> int:
    """Write a film of 1920 x 1080 whose picture moves sideways; returns its number of frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:1080, : 1920 + 480]
    wide = np.stack([rows % 256, columns % 256, (rows // 8 + columns // 8) % 2 * 255], -1).astype(np.uint8)
    pictures = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, x : x + 1920]), format="rgb24").reformat(
            format="yuv420p"
        )
        for x in range(0, 480, 8)
    ]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "32", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        num_frames = int(minutes * 60 * fps)
        for number in range(num_frames):
            picture = pictures[number % len(pictures)]
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return num_frames


def write_params(folder: Path) -> None:
    """The shipped parameters, with `pool` of this folder as the pool and captions not needed."""
    from ruamel.yaml import YAML

    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["clips"] |= {"missing_caption": "empty"}
    params["clips"]["source"]["pool"] = "pool"
    YAML().dump(params, folder / "params.yaml")


def clips_command(part: str = "pool") -> list[str]:
    """`motive clips PART` by this Python."""
    return [sys.executable, "-c", "from motive.cli import main; main()", "clips", part]


if __name__ == "__main__":
    typer.run(main)
