"""What does a sketch cost beside the forward and backward pass it comes from? Numbers for docs/benchmarks.md.

    python benchmarks/sketch_cost.py --json sketch_cost.json

One clip through a `WanTransformer3DModel` with random weights, in turns: a bare forward and backward pass,
and the same with each projection in its hooks. Then each alone in a process of its own, for memory; each
projection alone; and clips of a small model one by one against all at once by `torch.func`.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.func import functional_call, grad, vmap

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.maths.denoising import motion_weighted_loss
from motive.maths.gradients import Take, read_gradient, sketch_gradient
from motive.maths.projection import KINDS, Projection
from motive.params import load_params
from testing.measuring import JsonFile, in_new_process, own_peak_mb, report

LATENT = (16, 7, 32, 32)  # 7 x 16 x 16 = 1,792 tokens
TEXT = (64, 512)
WAYS = {"fastfood": ("fastfood", 512), "fastfood_2048": ("fastfood", 2048)}
WAYS |= {"count_sketch": ("count_sketch", 16384), "fold": ("fold", 16384)}


def main(
    json_file: JsonFile = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each way once.")] = 9,
    only: Annotated[
        str, typer.Option(help="Run one way once and print its memory; for the script itself.")
    ] = "",
) -> None:
    """Time and memory of a sketch against those of its backward pass; print a table."""
    torch.set_num_threads(1)
    if only:
        print(json.dumps(memory(only)))
        return
    model = build()
    times = timed(model, rounds)
    peaks = {name: in_new_process(__file__, "--only", name)["above"] for name in ("plain", *WAYS)}
    print_table(times, peaks)
    numbers = {
        "num_tokens": LATENT[1] * LATENT[2] * LATENT[3] // 4,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "seconds_plain": float(np.median(times["plain"])),
        "time_vmap_over_loop": vmap_over_loop(rounds),
    }
    for name in WAYS:
        numbers[f"time_{name}"] = float(np.median(times[name] / times["plain"]))
        numbers[f"memory_{name}"] = peaks[name] / peaks["plain"]
        numbers[f"nanoseconds_{name}"] = nanoseconds(projection_of(name), model)
    shipped = load_params().sketches.projection
    numbers["sketch_over_backward"] = numbers[f"time_{shipped}"]
    numbers["peak_memory_ratio"] = numbers[f"memory_{shipped}"]
    numbers["sketch_over_backward_worst"] = max(numbers[f"time_{name}"] for name in WAYS)
    report(numbers, json_file)


def timed(model: torch.nn.Module, rounds: int) -> dict[str, np.ndarray]:
    """Processor seconds [rounds] of a bare pass and of each way; each has run once before."""
    works = {"plain": partial(plain, model)}
    works |= {name: partial(sketched, model, projection_of(name)) for name in WAYS}
    for work in works.values():
        work()
    columns = np.array([turn(works) for _ in range(rounds)]).T
    return dict(zip(works, columns, strict=True))


def projection_of(way: str) -> Projection:
    kind, dim = WAYS[way]
    return KINDS[kind](dim, 0)


def print_table(times: dict[str, np.ndarray], peaks: dict[str, float]) -> None:
    """A row a way."""
    table = Table("pass", "time / plain", "least", "most", "MB above the model", "memory / plain")
    for name in WAYS:
        ratio = times[name] / times["plain"]
        cells = [f"{x:.3f}" for x in (np.median(ratio), ratio.min(), ratio.max())]
        table.add_row(name, *cells, f"{peaks[name]:.0f}", f"{peaks[name] / peaks['plain']:.3f}")
    Console().print(table)


def build(num_layers: int = 14, num_heads: int = 4) -> torch.nn.Module:
    """A transformer of the real class, of 15.5 million parameters by default."""
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    torch.manual_seed(0)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=num_heads,
        attention_head_dim=64,
        in_channels=LATENT[0],
        out_channels=LATENT[0],
        text_dim=TEXT[1],
        freq_dim=128,
        ffn_dim=256 * num_heads,
        num_layers=num_layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    """The forward pass: the motion-weighted loss of a made-up clip."""
    rng = torch.Generator().manual_seed(0)
    z, target = (torch.randn(LATENT, generator=rng) for _ in range(2))
    text = torch.randn(1, *TEXT, generator=rng)
    W = torch.rand(LATENT[1:], generator=rng)
    v = model(z[None], torch.tensor([751.0]), text, return_dict=False)[0][0]
    return motion_weighted_loss(v, target, W)


def plain(model: torch.nn.Module) -> None:
    """Forward and backward; gradients are freed as they come."""
    read_gradient(loss_of(model), model, lambda name, gradient: None)


def sketched(model: torch.nn.Module, projection: Projection) -> None:
    """The same, and each gradient projected before it is freed."""
    sketch_gradient(loss_of(model), model, projection)


def nanoseconds(projection: Projection, model: torch.nn.Module) -> float:
    """For each entry of a gradient, the best of five."""
    gradients = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    size = sum(g.numel() for g in gradients.values())

    def project() -> None:
        total = projection.zeros()
        for name, gradient in gradients.items():
            projection.add(total, name, gradient)

    return min(turn({"project": project})[0] for _ in range(5)) / size * 1e9


def vmap_over_loop(rounds: int, num_clips: int = 8) -> float:
    """Gradients of some clips on a model of the size of tiny-wan: all at once over one after the other."""
    model = build(num_layers=6, num_heads=2)
    rng = torch.Generator().manual_seed(0)
    z, target = (torch.randn(num_clips, LATENT[0], 13, 16, 16, generator=rng) for _ in range(2))
    text = torch.randn(num_clips, 32, TEXT[1], generator=rng)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], *clip: torch.Tensor) -> torch.Tensor:
        z, target, text = (x[None] for x in clip)
        inputs = (z, torch.tensor([751.0]), text)
        return (functional_call(model, weights, inputs, {"return_dict": False})[0] - target).square().mean()

    def one_by_one(take: Take = lambda name, gradient: None) -> None:
        for clip in zip(z, target, text, strict=True):
            read_gradient(loss(dict(model.named_parameters()), *clip), model, take)

    def at_once() -> dict[str, torch.Tensor]:
        return vmap(grad(loss), in_dims=(None, 0, 0, 0))(weights, z, target, text)

    # The same gradients, or the two times say nothing.
    apart: dict[str, list[torch.Tensor]] = {name: [] for name in weights}
    one_by_one(lambda name, gradient: apart[name].append(gradient.clone()))
    stacked = {name: torch.stack(gradients) for name, gradients in apart.items()}
    torch.testing.assert_close(at_once(), stacked, atol=1e-5, rtol=1e-3)

    columns = np.array([turn({"one": one_by_one, "all": at_once}) for _ in range(rounds)])
    return float(np.median(columns[:, 1] / columns[:, 0]))


def turn(works: Mapping[str, Callable[[], object]]) -> list[float]:
    """Processor seconds of each, one after the other: what else the machine does hits all."""
    seconds = []
    for work in works.values():
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return seconds


def memory(name: str) -> dict[str, float]:
    """Peak of two passes above the loaded model, in MB; the projection's tables count."""
    model = build()
    before = own_peak_mb()
    work = plain if name == "plain" else partial(sketched, projection=projection_of(name))
    for _ in range(2):
        work(model)
    return {"above": own_peak_mb() - before}


if __name__ == "__main__":
    typer.run(main)
