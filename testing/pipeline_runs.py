"""The pipeline run by `dvc repro` on a small project that grows, and what each run says and leaves."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from testing.tiny import ROOT
from testing.whole_project import metadata, write_metadata, write_project

LATER = Path("later")  # where clips wait
RANKING = Path("data/attribution/ranking.parquet")
SUBSET = Path("data/curation/subset.parquet")
PER_CLIP = ("optical_flow", "masks", "latents", "sketches")


@dataclass(frozen=True)
class Repro:
    """What one `dvc repro` printed and left."""

    code: int
    output: str
    ranking: bytes
    subset: bytes

    @property
    def ran(self) -> list[str]:
        return re.findall(r"Running stage '(.+)':", self.output)

    @property
    def restored(self) -> list[str]:
        return re.findall(r"Stage '(.+)' is cached - skipping run", self.output)


def repro() -> Repro:
    """`dvc repro`, its stages finding `motive` where this Python has it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"dvc repro: {time.monotonic() - start:.0f} s\n{done.stdout}")
    ranking = RANKING.read_bytes() if RANKING.is_file() else b""
    subset = SUBSET.read_bytes() if SUBSET.is_file() else b""
    return Repro(done.returncode, done.stdout, ranking, subset)


def num_made(output: str) -> dict[str, list[str]]:
    """stage -> how many pool clips it says it has to make, each time it ran."""
    return {stage: re.findall(rf"{stage} pool: (\d+) to make, \d+ done before", output) for stage in PER_CLIP}


def write_growing_project(folder: Path, num_pool: int, num_later: int, num_heldout: int) -> None:
    """A clone with a small world, of which some pool clips are not there yet, and a tiny model.

    The folder must be the working directory.
    """
    write_project(folder, num_pool=num_pool + num_later, num_heldout=num_heldout)
    lines = metadata()
    LATER.mkdir()
    for line in lines[-num_later:]:
        name = json.loads(line)["file_name"]
        Path("data/world/pool", name).rename(LATER / name)
    (LATER / "metadata.jsonl").write_text("\n".join(lines[-num_later:]))
    write_metadata(lines[:-num_later])


def add_later_clips(*more_lines: str) -> None:
    """The clips that were not there come, and these lines of metadata with them."""
    lines = (LATER / "metadata.jsonl").read_text().splitlines()
    for line in lines:
        shutil.move(LATER / json.loads(line)["file_name"], "data/world/pool")
    write_metadata([*metadata(), *lines, *more_lines])
