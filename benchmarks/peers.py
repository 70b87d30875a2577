"""Sketches of a video model beside those of other attribution libraries. Numbers for docs/benchmarks.md.

    python benchmarks/peers.py --json peers.json

On the results of a finished `make repro`: gradients of the same clips on the shipped model, projected by
trak, by dattri and by Motive into sketches of as many bytes (Motive's are signs, as params.yaml has them),
and by Motive of as many numbers as well. Each runs in a process of its own, all in one environment, in turns,
with a new seed each round. Influence is the cosine, fidelity its rank correlation with that of whole
gradients.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Annotated, NamedTuple

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
from motive.store.files import write_json
from testing.measuring import JsonFile
from testing.peer_numbers import judged, summary

ROOT = Path(__file__).parents[1]
BITS = 32  # signs in the room of a float32: 2 kB as the shipped setting


class Way(NamedTuple):
    """What runs: the contender's function, kind of projection, its length, how the pool is stored."""

    contender: str
    kind: str
    length: int
    storage: Storage


def main(
    json_file: JsonFile = None,
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
    queries = stacked("queries", num_queries, params)
    pool = stacked("pool", num_pool, params)
    exact = exact_influence(pool, queries, params)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        clips = Path(folder) / "clips.safetensors"
        out = Path(folder) / "sketches.safetensors"
        save_file({name: torch.cat([pool[name], queries[name]]) for name in CLIP}, clips)
        for seed in range(rounds):
            for name, way in tqdm(ways.items(), desc=f"round {seed}"):
                run(python, way.contender, way.kind, way.length, seed, params.model.path, clips, out)
                runs[name].append(judged(out, exact, way.storage))
            numbers = summary(runs) | {
                "num_pool": num_pool,
                "num_queries": num_queries,
                "num_rounds": seed + 1,
                "dim": dim,
            }
            print_table(numbers, ways)
            if json_file:  # after each round: a run that is stopped has said something
                write_json(json_file, numbers | {"kind": ways["ours"].kind})


def prepared(folder: Path) -> Path:
    """The Python of the environment; pip's own settings say where packages come from."""
    python = folder / "bin/python"
    stamp = folder / "installed.txt"
    requirements = ROOT / "benchmarks/peers-requirements.txt"
    if not stamp.is_file() or stamp.read_text() != requirements.read_text():
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--requirement", requirements]
        subprocess.run(command, check=True)
        stamp.write_text(requirements.read_text())
    return python


def contenders(kind: str, dim: int) -> dict[str, Way]:
    """All that are compared; what the libraries make has as many numbers."""
    return {
        "ours": Way("ours", kind, BITS * dim, "bit"),
        "ours_numbers": Way("ours", kind, dim, "float32"),
        "ours_fastfood": Way("ours", "fastfood", dim, "float32"),
        "trak": Way("trak", "normal", dim, "float32"),
        "dattri": Way("dattri", "normal", dim, "float32"),
        "trak_whole": Way("trak_whole", "normal", dim, "float32"),
        "dattri_mask": Way("dattri", "random_mask", dim, "float32"),
    }


def stacked(split: str, most: int, params: Params) -> dict[str, Tensor]:
    """The first clips in which something moves, at the first noise level, each of CLIP as one tensor."""
    plan = Plan(params.sketches.sigmas[:1], params.sketches.noise_seed)
    sigma = torch.tensor(plan.sigmas[0])
    rows = []
    for z, text, W in moving_clips(split, most, params):
        C, T, h, w = z.shape
        eps = plan.noise((C, T, h, w))
        rows.append((noised(z, eps, sigma), sigma, text, target_velocity(z, eps), W))
    return dict(zip(CLIP, map(torch.stack, zip(*rows, strict=True)), strict=True))


def exact_influence(pool: dict[str, Tensor], queries: dict[str, Tensor], params: Params) -> np.ndarray:
    """Cosines [N,Q] of whole gradients."""
    model = backbones.load_transformer(params.model.path, "float32", "cpu").eval()
    kept = keep_gradients((loss(model, *clip) for clip in zip(*queries.values(), strict=True)), model)
    clips = tqdm(zip(*pool.values(), strict=True), desc="exact", total=len(pool["W"]), unit="clip")
    return torch.stack([exact_cosines(loss(model, *clip), model, kept) for clip in clips]).numpy()


def run(python: Path, *arguments: object) -> None:
    """One contender, on one thread."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", ROOT / "benchmarks/peers_contender.py", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment)


def print_table(numbers: dict[str, float], ways: dict[str, Way]) -> None:
    """One line a way."""
    columns = ("way", "projection", "bytes", "s a clip", "time / ours", "MB", "memory / ours", "Spearman")
    table = Table(*columns, title="gradient and projection of a clip")
    for name, way in ways.items():
        table.add_row(
            name,
            f"{way.kind} {way.length}",
            f"{way.length * BYTES[way.storage]:.0f}",
            f"{numbers[f'seconds_{name}']:.3f}",
            f"{numbers[f'time_ratio_{name}']:.2f}",
            f"{numbers[f'mb_{name}']:.0f}",
            f"{numbers[f'memory_ratio_{name}']:.1f}",
            f"{numbers[f'spearman_{name}']:.3f} ± {numbers[f'spearman_std_{name}']:.3f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
