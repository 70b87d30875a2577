"""Sketches of a video model beside those of other attribution libraries. Numbers for docs/benchmarks.md.

    python benchmarks/peers.py --json peers.json

On the results of a finished `make repro`: gradients of the same clips on the shipped model, projected by
trak, by dattri and by Motive into sketches of as many bytes (Motive's are signs, as params.yaml has them),
and by Motive of as many numbers as well. Each runs in a process of its own, all in one environment, in turns,
with a new seed each round. Influence is the cosine, fidelity its rank correlation with that of whole
gradients.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.fidelity import moving_clips
from benchmarks.peers_contender import CLIP, loss
from motive.maths.denoising import noised, target_velocity
from motive.maths.exact import exact_cosines, keep_gradients
from motive.maths.packing import BYTES, Storage
from motive.maths.plan import Plan
from motive.models import backbones
from motive.params import Params, load_params
from testing.peer_numbers import judged, summary

ROOT = Path(__file__).parents[1]
BITS = 32  # signs in the room of a float32: 2 kB as the shipped setting


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    environment: Annotated[
        Path, typer.Option(help="Virtual environment with the libraries; made if it is not there.")
    ] = Path(".motive/peers"),
    num_pool: Annotated[int, typer.Option(min=20, help="Pool clips.")] = 108,  # with the queries 4 x 32
    num_queries: Annotated[int, typer.Option(min=2, help="Query clips.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each way once, each with a seed.")] = 3,
    kind: Annotated[str, typer.Option(help="Motive's projection; empty: of params.yaml.")] = "",
    dim: Annotated[int, typer.Option(min=1, help="Numbers of a peer's sketch, a power of two.")] = 512,
) -> None:
    """Time, memory and fidelity of each library's sketches; print a table."""
    torch.set_num_threads(1)
    params = load_params()
    python = prepared(environment)
    ways = contenders(kind or params.sketches.projection, dim)
    queries, pool = (stacked(*part, params) for part in (("queries", num_queries), ("pool", num_pool)))
    exact = exact_influence(pool, queries, params)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        clips, out = Path(name) / "clips.safetensors", Path(name) / "sketches.safetensors"
        both = [torch.cat(x) for x in zip(pool, queries, strict=True)]
        save_file(dict(zip(CLIP, both, strict=True)), clips)
        for seed in range(rounds):
            for way, (contender, projection, length, storage) in tqdm(ways.items(), desc=f"round {seed}"):
                run(python, contender, projection, length, seed, params.model.path, clips, out)
                runs[way].append(judged(out, exact, storage))
            numbers = summary(runs) | {"num_pool": num_pool, "num_queries": num_queries, "dim": dim}
            numbers["num_rounds"] = seed + 1
            print_table(numbers, ways)
            if json_file:  # after each round: a run that is stopped has said something
                named = numbers | {"kind": ways["ours"][1]}
                json_file.write_text(json.dumps(named, indent=1, sort_keys=True) + "\n")


def prepared(folder: Path) -> Path:
    """The Python of the environment; pip's own settings say where packages come from."""
    python, stamp = folder / "bin/python", folder / "installed.txt"
    needs = (ROOT / "benchmarks/peers-requirements.txt").read_text()
    if not stamp.is_file() or stamp.read_text() != needs:
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--requirement"]
        subprocess.run([*command, ROOT / "benchmarks/peers-requirements.txt"], check=True)
        stamp.write_text(needs)
    return python


def contenders(kind: str, dim: int) -> dict[str, tuple[str, str, int, Storage]]:
    """What runs: the contender's function, kind of projection, its length, how the pool is stored."""
    return {
        "ours": ("ours", kind, BITS * dim, "bit"),
        "ours_numbers": ("ours", kind, dim, "float32"),
        "ours_fastfood": ("ours", "fastfood", dim, "float32"),
        "trak": ("trak", "normal", dim, "float32"),
        "dattri": ("dattri", "normal", dim, "float32"),
        "trak_whole": ("trak_whole", "normal", dim, "float32"),
        "dattri_mask": ("dattri", "random_mask", dim, "float32"),
    }


def stacked(part: str, most: int, params: Params) -> list[Tensor]:
    """The first clips in which something moves, at the first noise level, each of CLIP as one tensor."""
    plan = Plan(params.sketches.sigmas[:1], params.sketches.noise_seed)
    sigma, rows = torch.tensor(plan.sigmas[0]), []
    for z, text, W in moving_clips(part, most, params):
        C, T, h, w = z.shape
        eps = plan.noise((C, T, h, w))
        rows.append((noised(z, eps, sigma), sigma, text, target_velocity(z, eps), W))
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def exact_influence(pool: list[Tensor], queries: list[Tensor], params: Params) -> np.ndarray:
    """Cosines [N,Q] of whole gradients."""
    model = backbones.load_transformer(params.model.path, "float32", "cpu").eval()
    kept = keep_gradients((loss(model, *clip) for clip in zip(*queries, strict=True)), model)
    clips = tqdm(zip(*pool, strict=True), desc="exact", total=len(pool[0]), unit="clip")
    return torch.stack([exact_cosines(loss(model, *clip), model, kept) for clip in clips]).numpy()


def run(python: Path, *arguments: object) -> None:
    """One contender, on one thread."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", ROOT / "benchmarks/peers_contender.py", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment)


def print_table(numbers: dict[str, float], ways: dict[str, tuple[str, str, int, Storage]]) -> None:
    """One line a way."""
    columns = ("way", "projection", "bytes", "s a clip", "time / ours", "MB", "memory / ours", "Spearman")
    table = Table(*columns, title="gradient and projection of a clip")
    for way, (_, kind, length, storage) in ways.items():
        n = {key: numbers[f"{key}_{way}"] for key in ("seconds", "mb", "spearman", "spearman_std")}
        time, memory = (numbers[f"{name}_ratio_{way}"] for name in ("time", "memory"))
        spread = f"{n['spearman']:.3f} ± {n['spearman_std']:.3f}"
        size = f"{length * BYTES[storage]:.0f}"
        cells = (f"{n['seconds']:.3f}", f"{time:.2f}", f"{n['mb']:.0f}", f"{memory:.1f}", spread)
        table.add_row(way, f"{kind} {length}", size, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
