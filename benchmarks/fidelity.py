"""How well does a sketch keep the influence of whole gradients? Numbers for docs/benchmarks.md.

    python benchmarks/fidelity.py --json fidelity.json

On the results of a finished `make repro`: each pool clip's gradient on the shipped model meets the queries'
whole gradients (exact mode) and is projected in every way, all in one backward pass. Then the influence that
each way gives is held against the exact one, query by query.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
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
from motive.store.shards import locate, read_clip_tensors
from testing.fidelity_measures import MEASURES, measures

DIMS = (128, 512, 1024, 2048, 4096, 16384)
BUDGET = 2048  # bytes a clip: the paper's 512 numbers of float32
ASKED = ("queries", "heldout")  # whose clips ask, until there are enough
Ways = dict[tuple[str, int, int], Projection]  # kind, dim, seed


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    num_pool: Annotated[int, typer.Option(min=20, help="Pool clips.")] = 500,
    num_queries: Annotated[int, typer.Option(min=2, help="Query clips.")] = 50,
    num_seeds: Annotated[int, typer.Option(min=1, help="Seeds of the projections.")] = 3,
    sigma: Annotated[float, typer.Option(help="Noise level.")] = 0.751,
) -> None:
    """Hold sketches of every kind, length and number type against the exact influence; print the curve."""
    torch.set_num_threads(1)
    params = load_params()
    model = backbones.load_transformer(params.model.path, params.model.dtype, "cpu")
    ways: Ways = {(k, d, s): KINDS[k](d, s) for k in KINDS for d in DIMS for s in range(num_seeds)}
    plan = Plan((sigma,), params.sketches.noise_seed)
    asked = partial(losses, ASKED, num_queries, model, plan, params)
    kept = keep_gradients(asked(), model)
    queries = [meet(loss, model, ways, kept) for loss in asked()]
    pool = [meet(loss, model, ways, kept) for loss in losses(("pool",), num_pool, model, plan, params)]
    exact = torch.stack([cosines for cosines, _ in pool]).numpy()
    rows = pd.DataFrame(compare(exact, [s for _, s in pool], [s for _, s in queries], ways))
    rows = rows.groupby(["kind", "dim", "storage", "bytes"], as_index=False).agg(["mean", "std"])
    print_curve(rows)
    numbers = {"num_pool": len(pool), "num_queries": len(queries), "num_seeds": num_seeds} | summary(rows)
    numbers["num_parameters"] = sum(p.numel() for p in model.parameters())
    if json_file:
        json_file.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def losses(
    parts: tuple[str, ...], most: int, model: nn.Module, plan: Plan, params: Params
) -> Iterator[Tensor]:
    """Yield the motion-weighted loss of each of the first clips in which something moves."""
    sigma = torch.tensor(plan.sigmas)
    clips = chain.from_iterable(moving_clips(part, most, params) for part in parts)
    for z, text, W in islice(clips, most):
        C, T, h, w = z.shape
        eps = plan.noise((C, T, h, w))
        v = backbones.velocity(model, noised(z, eps, sigma)[None], sigma, text[None])[0]
        yield motion_weighted_loss(v, target_velocity(z, eps), W)


def moving_clips(part: str, most: int, params: Params) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield latent, padded text and motion mask of the first clips in which something moves."""
    latents, masks = (locate(Path("data") / part / stage) for stage in ("latents", "masks"))
    clip_ids, found = [i for i in latents if i in masks], 0
    mask_of = dict(read_clip_tensors(masks, clip_ids))
    for clip_id, clip in tqdm(read_clip_tensors(latents, clip_ids), desc=part, total=most, unit="clip"):
        W = mask_of[clip_id]["mask"].float()
        if not W.any() or found == most:
            continue
        found += 1
        (text,) = backbones.padded([clip["text"].float()], params.latents.max_tokens)
        yield clip["latent"].float(), text, W


def meet(loss: Tensor, model: nn.Module, ways: Ways, kept: Kept) -> tuple[Tensor, list[Tensor]]:
    """The exact cosine [Q] with each query, and the sketch of every way."""
    dots, square = torch.zeros(len(next(iter(kept.values())))), torch.zeros(())
    totals = [projection.zeros() for projection in ways.values()]

    def take(name: str, gradient: Tensor) -> None:
        flat = gradient.flatten()
        dots.add_(kept[name] @ flat)
        square.add_(flat.square().sum())
        for projection, total in zip(ways.values(), totals, strict=True):
            projection.add(total, name, gradient)

    read_gradient(loss, model, take)
    closed = [p.close(total).half() for p, total in zip(ways.values(), totals, strict=True)]
    return dots / square.sqrt(), closed


def compare(
    exact: np.ndarray, pool: list[list[Tensor]], queries: list[list[Tensor]], ways: Ways
) -> Iterator[dict[str, Any]]:
    """Yield a row for each way and number type: the measures, means over the queries."""
    ok = torch.ones(len(pool), dtype=torch.bool)
    for n, (kind, dim, _) in enumerate(ways):
        for storage, size in BYTES.items():
            clips, asked = (
                torch.stack([clip[n] for clip in part]).float()[:, None] for part in (pool, queries)
            )
            found = influence(pack(clips, storage), pack(asked, "float32"), ok).numpy()  # type: ignore[arg-type]
            yield {"kind": kind, "dim": dim, "storage": storage, "bytes": int(dim * size)} | measures(
                exact, found
            )


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """The best way within the budget, the paper's way, and each measure of every way."""
    within: Any = rows[rows["bytes"] == BUDGET]
    best = within.loc[within["spearman"]["mean"].idxmax()]
    numbers = {f"{name}_2kb": best[name]["mean"] for name in MEASURES} | {
        "spearman_2kb_std": best["spearman"]["std"]
    }
    numbers |= {"way_2kb": " ".join(str(best[key].iloc[0]) for key in ("kind", "dim", "storage"))}
    for row in rows.to_dict("records"):
        kind, dim, storage = (row[key, ""] for key in ("kind", "dim", "storage"))
        numbers |= {f"{name}_{kind}_{dim}_{storage}": row[name, "mean"] for name in MEASURES}
    return numbers | {"spearman_paper_512": numbers["spearman_fastfood_512_float32"]}


def print_curve(rows: pd.DataFrame) -> None:
    """One line a way, by bytes a clip."""
    table = Table("bytes", "projection", "numbers", "type", *MEASURES, title="against the exact influence")
    for row in rows.sort_values(["bytes", "kind", "dim"]).to_dict("records"):
        kind, dim, storage, size = (row[key, ""] for key in ("kind", "dim", "storage", "bytes"))
        cells = [f"{row[name, 'mean']:.4f} ± {row[name, 'std']:.4f}" for name in MEASURES]
        table.add_row(str(size), kind, str(dim), storage, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
