"""The book-keeping around a large pool: how long, in how much memory? Sketches are made up, shards are real.

    python benchmarks/store.py --clips 1000000 --shard-size 250 --json store.json

Works in a temporary folder. Each step is a process of its own, so that its peak memory is its own.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.store import shards, work
from motive.store.files import write_json
from motive.store.recipes import Recipe
from testing.measuring import JsonFile, in_new_process, own_peak_mb, seconds

RECIPE = Recipe("scale", 1)
OUT = Path("out")


def main(
    clips: Annotated[int, typer.Option(min=1, help="Clips of the pool.")] = 1_000_000,
    shard_size: Annotated[int, typer.Option(min=1, help="Clips in a shard.")] = 250,
    dim: Annotated[int, typer.Option(min=1, help="fp16 numbers in a sketch.")] = 8,
    json_file: JsonFile = None,
    step: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fill a store, and time what a stage does around its work."""
    if step:
        print(json.dumps(measured(STEPS[step], clips, shard_size)))
        return
    numbers: dict[str, float] = {"num_clips": clips, "num_shards": -(-clips // shard_size), "dim": dim}
    with tempfile.TemporaryDirectory(dir=".") as folder, chdir(folder):
        fill(clips, shard_size, dim)
        print(f"{clips:,} clips in {numbers['num_shards']:,} shards of {dim} numbers each")
        print("| step | seconds | peak, GB |\n|---|---|---|")
        for name in STEPS:
            options = ("--step", name, f"--clips={clips}", f"--shard-size={shard_size}")
            spent = in_new_process(__file__, *options)
            numbers |= {f"{name}_{key}": value for key, value in spent.items()}
            print(f"| {name} | {spent['seconds']:.1f} | {spent['peak_gb']:.2f} |", flush=True)
    if json_file:
        write_json(json_file, numbers)


def clip_ids(number: int) -> list[str]:
    """Ids as the clips stage makes them."""
    return sorted(hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(number))


def fill(clips: int, shard_size: int, dim: int) -> None:
    ids = clip_ids(clips)
    for start in range(0, clips, shard_size):
        rows = torch.randn(shard_size, dim).half()
        pairs = zip(ids[start : start + shard_size], rows, strict=False)
        work.write_chunk(RECIPE, {i: {"sketch": row, "ok": torch.tensor(True)} for i, row in pairs}, {})


def measured(step: Callable[[list[str], int], object], clips: int, shard_size: int) -> dict[str, float]:
    """Seconds of one step, and the peak memory of its process (the ids are in it)."""
    spent = seconds(partial(step, clip_ids(clips), shard_size))
    return {"seconds": spent, "peak_gb": own_peak_mb() / 1024}


def _publish(ids: list[str], shard_size: int) -> None:
    work.publish(RECIPE, ids, shard_size, OUT)


def _read_clips(ids: list[str], _: int) -> None:
    for _clip in shards.read_clip_tensors(shards.locate(OUT), ids[:: len(ids) // 1000 or 1]):
        pass


STEPS: dict[str, Callable[[list[str], int], object]] = {
    "nothing": lambda ids, size: None,
    "done": lambda ids, size: work.done(RECIPE),
    "pending": lambda ids, size: work.pending(RECIPE, ids, size),
    "publish": _publish,
    "publish_again": _publish,
    "publish_other_size": lambda ids, size: work.publish(RECIPE, ids, size * 2 - 1, Path("other")),
    "locate": lambda ids, size: shards.locate(OUT),
    "read_stacked": lambda ids, size: shards.read_stacked(OUT, "sketch"),
    "read_a_thousand_clips": _read_clips,
    "summarise": lambda ids, size: shards.summarise(OUT, "sketch"),
}


if __name__ == "__main__":
    typer.run(main)
