"""How well does a sketch keep the influence of whole gradients? Numbers for docs/benchmarks.md.

    python benchmarks/fidelity.py --json fidelity.json

On the results of a finished `make repro`: each pool clip's gradient on the shipped model meets the queries'
whole gradients (exact mode) and is projected in every way, all in one backward pass. Then the influence that
each way gives is held against the exact one, query by query.
"""

import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.maths.denoising import motion_weighted_loss, noised, target_velocity
from motive.maths.exact import Kept, keep_gradients
from motive.maths.gradients import read_gradient
from motive.maths.influence import influence
from motive.maths.packing import BYTES, pack
from motive.maths.plan import Plan
from motive.maths.projection import KINDS, Projection
from motive.models import backbones
from motive.params import Params, load_params
from motive.store.files import write_json
from motive.store.shards import locate, read_clip_tensors
from testing.fidelity_measures import MEASURES, measures
from testing.measuring import JsonFile

DIMS = (128, 512, 1024, 2048, 4096, 16384)
BUDGET = 2048  # bytes a clip: the paper's 512 numbers of float32
QUERY_SPLITS = ("queries", "heldout")  # whose clips are queries, until there are enough
Ways = dict[tuple[str, int, int], Projection]  # kind, dim, seed


def main(
    json_file: JsonFile = None,
    num_pool: Annotated[int, typer.Option(min=20, help="Pool clips.")] = 500,
    num_queries: Annotated[int, typer.Option(min=2, help="Query clips.")] = 50,
    num_seeds: Annotated[int, typer.Option(min=1, help="Seeds of the projections.")] = 3,
    sigma: Annotated[float, typer.Option(help="Noise level.")] = 0.751,
) -> None:
    """Hold sketches of every kind, length and dtype against the exact influence; print the curve."""
    torch.set_num_threads(1)
    params = load_params()
    model = backbones.load_transformer(params.model.path, params.model.dtype, "cpu")
    ways: Ways = {way: KINDS[way[0]](way[1], way[2]) for way in product(KINDS, DIMS, range(num_seeds))}
    plan = Plan((sigma,), params.sketches.noise_seed)
    query_losses = partial(losses, QUERY_SPLITS, num_queries, model, plan, params)
    kept = keep_gradients(query_losses(), model)
    _, queries = meet_all(query_losses(), model, ways, kept)
    exact, pool = meet_all(losses(("pool",), num_pool, model, plan, params), model, ways, kept)
    rows = compare(exact, pool, queries, ways)
    print_curve(rows)
    if json_file:
        sizes = {
            "num_pool": exact.shape[0],
            "num_queries": exact.shape[1],
            "num_seeds": num_seeds,
            "num_parameters": sum(map(torch.numel, model.parameters())),
        }
        write_json(json_file, summary(rows) | sizes)


def losses(
    splits: tuple[str, ...], most: int, model: nn.Module, plan: Plan, params: Params
) -> Iterator[Tensor]:
    """Yield the motion-weighted loss of each of the first clips in which something moves."""
    sigma = torch.tensor(plan.sigmas)
    clips = chain.from_iterable(moving_clips(split, most, params) for split in splits)
    for z, text, W in islice(clips, most):
        C, T, h, w = z.shape
        eps = plan.noise((C, T, h, w))
        v = backbones.velocity(model, noised(z, eps, sigma)[None], sigma, text[None])[0]
        yield motion_weighted_loss(v, target_velocity(z, eps), W)


def moving_clips(split: str, most: int, params: Params) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield latent, padded text and motion mask of the first clips in which something moves."""
    latents = locate(Path("data") / split / "latents")
    masks = locate(Path("data") / split / "masks")
    stored = read_clip_tensors(masks, [clip_id for clip_id in latents if clip_id in masks])
    mask_of = {clip_id: tensors["mask"].float() for clip_id, tensors in stored if tensors["mask"].any()}
    clips = read_clip_tensors(latents, list(mask_of)[:most])
    for clip_id, clip in tqdm(clips, desc=split, total=min(most, len(mask_of)), unit="clip"):
        (text,) = backbones.padded([clip["text"].float()], params.latents.max_tokens)
        yield clip["latent"].float(), text, mask_of[clip_id]


def meet_all(
    losses: Iterator[Tensor], model: nn.Module, ways: Ways, kept: Kept
) -> tuple[np.ndarray, list[Tensor]]:
    """The exact cosines [n,Q] of some losses' gradients, and of each way their sketches [n,1,D]."""
    cosines, sketches = zip(*(meet(loss, model, ways, kept) for loss in losses), strict=True)
    of_ways = zip(*sketches, strict=True)
    return torch.stack(cosines).numpy(), [torch.stack(sketch).float()[:, None] for sketch in of_ways]


def meet(loss: Tensor, model: nn.Module, ways: Ways, kept: Kept) -> tuple[Tensor, list[Tensor]]:
    """The exact cosine [Q] with each query, and the sketch of every way."""
    dots = torch.zeros(len(next(iter(kept.values()))))
    square = torch.zeros(())
    totals = [projection.zeros() for projection in ways.values()]

    def take(name: str, gradient: Tensor) -> None:
        flat = gradient.flatten()
        dots.add_(kept[name] @ flat)
        square.add_(flat.square().sum())
        for projection, total in zip(ways.values(), totals, strict=True):
            projection.add(total, name, gradient)

    read_gradient(loss, model, take)
    pairs = zip(ways.values(), totals, strict=True)
    return dots / square.sqrt(), [projection.close(total).half() for projection, total in pairs]


def compare(exact: np.ndarray, pool: list[Tensor], queries: list[Tensor], ways: Ways) -> pd.DataFrame:
    """Mean and std over the seeds of each measure, itself a mean over the queries, by way and dtype."""
    ok = torch.ones(len(exact), dtype=torch.bool)
    rows = []
    for (kind, dim, _), of_pool, of_queries in zip(ways, pool, queries, strict=True):
        for storage, size in BYTES.items():
            packed = pack(of_pool, storage)  # type: ignore[arg-type]
            cheap = influence(packed, pack(of_queries, "float32"), ok).numpy()
            way = {"kind": kind, "dim": dim, "storage": storage, "bytes": int(dim * size)}
            rows.append(way | measures(exact, cheap))
    return pd.DataFrame(rows).groupby(["kind", "dim", "storage", "bytes"]).agg(["mean", "std"])


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """The best way within the budget, the paper's way, and each measure of every way."""
    numbers: dict[str, Any] = {}
    for way, row in rows.droplevel("bytes").iterrows():
        numbers |= {"_".join(map(str, (name, *way))): row[name, "mean"] for name in MEASURES}  # type: ignore[misc]
    within: Any = rows.xs(BUDGET, level="bytes")
    best = within.loc[within["spearman"]["mean"].idxmax()]
    numbers |= {f"{name}_2kb": best[name, "mean"] for name in MEASURES}
    numbers["spearman_2kb_std"] = best["spearman", "std"]
    numbers["way_2kb"] = " ".join(map(str, best.name))
    numbers["spearman_paper_512"] = numbers["spearman_fastfood_512_float32"]
    return numbers


def print_curve(rows: pd.DataFrame) -> None:
    """One line a way, by bytes a clip."""
    table = Table("bytes", "projection", "numbers", "type", *MEASURES, title="against the exact influence")
    rows = rows.sort_index(level=["bytes", "kind", "dim"])
    for (kind, dim, storage, size), row in rows.iterrows():  # type: ignore[misc]
        cells = [f"{row[name, 'mean']:.4f} ± {row[name, 'std']:.4f}" for name in MEASURES]
        table.add_row(str(size), kind, str(dim), storage, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
