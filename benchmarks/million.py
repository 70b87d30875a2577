"""A query against a million clips: seconds and memory. Numbers for docs/benchmarks.md.

    python benchmarks/million.py --json million.json

Writes stores of random sketches as the sketches stage publishes them, 512 numbers of float16 a clip, and
16,384 signs, which ship. In a process of its own it measures what a user waits for: read clip table and
store as the attribution stage does, influence of one new query, votes, ranking; then the same for fifty
queries.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from safetensors.torch import save_file
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.maths.influence import influence
from motive.maths.influence import measure as measure_by
from motive.maths.packing import Storage, pack, unit
from motive.maths.ranking import mean_influence, rank, votes
from motive.maths.statistics import row_bootstrap_intervals
from motive.stages.attribution import aligned
from motive.store.files import read_table, write_table
from motive.store.shards import read_manifest
from testing.measuring import JsonFile, in_new_process, own_peak_mb, report

SHARD = 4096
WAYS: dict[str, tuple[int, Storage]] = {"": (512, "float16"), "shipped_": (16_384, "bit")}  # prefix of keys


def main(
    json_file: JsonFile = None,
    num_clips: Annotated[int, typer.Option(min=1, help="Clips in the store.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Processes that measure, one by one.")] = 5,
    store: Annotated[Path | None, typer.Option(help="Measure here; for the script itself.")] = None,
) -> None:
    """Write stores, measure each in new processes, print medians, of a query the least and the most too."""
    if store:
        print(json.dumps(measure(store)))
        return
    numbers: dict[str, float] = {"num_clips": num_clips, "rounds": rounds}
    for prefix, (dim, storage) in WAYS.items():
        with tempfile.TemporaryDirectory() as name:
            write_store(Path(name), num_clips, dim, storage)
            table = pd.DataFrame([in_new_process(__file__, "--store", name) for _ in range(rounds)])
        numbers |= {f"{prefix}{key}": float(value) for key, value in table.median().items()}
        query: Any = table["query_seconds"]
        numbers[f"{prefix}query_seconds_least"] = float(query.min())
        numbers[f"{prefix}query_seconds_most"] = float(query.max())
    report(numbers, json_file)


def write_store(folder: Path, num_clips: int, dim: int, storage: Storage) -> None:
    """A published folder of sketches and its clip table."""
    rng = np.random.default_rng(0)
    clip_ids = [f"{n:016x}" for n in range(num_clips)]
    for start in tqdm(range(0, num_clips, SHARD), desc="store", unit="shard", mininterval=5):
        ids = clip_ids[start : start + SHARD]
        tensors = {
            "sketch": random_sketches(rng, len(ids), dim, storage),
            "ok": torch.ones(len(ids), dtype=torch.bool),
        }
        path = folder / f"{start:08d}-{start + len(ids):08d}.safetensors"
        save_file(tensors, path, {"motive": json.dumps({"clip_ids": ids})})
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    manifest = {"shards": shards, "num_clips": num_clips, "params": {"dim": dim}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_table(folder / "clips.parquet", pd.DataFrame({"clip_id": clip_ids, "caption": "a ball rolls"}))


def random_sketches(rng: np.random.Generator, number: int, dim: int, storage: Storage) -> torch.Tensor:
    """Gaussian sketches [number, 1, dim], packed."""
    if storage == "bit":  # signs of Gaussians are bits, each as likely; to draw those takes minutes
        return torch.from_numpy(rng.integers(0, 256, (number, 1, dim // 8), np.uint8))
    return pack(torch.from_numpy(rng.standard_normal((number, 1, dim), np.float32)), storage)


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each step, and the peak."""
    torch.set_num_threads(2)
    dim = read_manifest(folder)["params"]["dim"]
    queries = unit(torch.randn(50, 1, dim, generator=torch.Generator().manual_seed(1)))
    numbers = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        numbers[name] = time.perf_counter() - start
        start = time.perf_counter()

    # What a user waits for: the tables read, one query, its ranking.
    table = read_table(folder / "clips.parquet")
    usable, pool = aligned(table, folder)
    clip_ids = table["clip_id"].tolist()
    ok = torch.from_numpy(usable)
    lap("read_seconds")
    one = influence(pool, queries[:1], ok).numpy()
    lap("influence_seconds")
    order = rank(votes(one, usable, 90.0), mean_influence(one), usable, clip_ids)
    lap("rank_seconds")
    numbers["query_seconds"] = sum(numbers.values())
    assert len(order) == len(pool)

    # The ranking written, and the same for fifty queries.
    table["rank"] = order
    write_table(folder / "ranking.parquet", table.sort_values("rank", ignore_index=True))
    lap("table_seconds")
    fifty = influence(pool, queries, ok).numpy()
    rank(votes(fifty, usable, 90.0), mean_influence(fifty), usable, clip_ids)
    lap("fifty_queries_seconds")
    numbers["peak_gb"] = own_peak_mb() / 1024

    # What is not shipped, or done once.
    row_bootstrap_intervals(fifty)
    lap("interval_seconds")
    influence(pool, queries[:1], ok, measure_by(pool, ok, "centred"))
    lap("centred_influence_seconds")
    numbers["peak_gb_all"] = own_peak_mb() / 1024
    return {name: float(np.round(value, 3)) for name, value in numbers.items()}


if __name__ == "__main__":
    typer.run(main)
