"""What a large pool costs, by arithmetic: shards, hours, bytes, money. Every input is named, with its source.

    python benchmarks/scaling.py --clips 1000000 --gpus 64 --json scaling.json
    python benchmarks/scaling.py --set sketch_over_backward=1.3 --set dollars_per_gpu_hour=3.5

The numbers of docs/scaling.md are what the first command prints. Nothing is measured here.
"""

import math
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.store.files import write_json
from testing.measuring import JsonFile


class Input(NamedTuple):
    """One number of the arithmetic and where it is from."""

    value: float
    source: str


INPUTS = {
    "paper_seconds": Input(54, "the paper, one A100: seconds a clip, 81 frames of 480x832, Wan2.1-1.3B"),
    "a100_backward_seconds": Input(
        9, "docs/scaling.md: 1.2e15 FLOP a pass with checkpointing, at 40 % of an A100"
    ),
    "h100_backward_seconds": Input(3, "docs/scaling.md: the same at 40 % of an H100"),
    "sketch_over_backward": Input(1.02, "docs/benchmarks.md: What does a sketch cost?"),
    "num_sigmas": Input(1, "profiles/paper.yaml: sketches.sigmas"),
    "shard_size": Input(64, "params.yaml: shards.size"),
    "flow_core_seconds": Input(
        2.7, "docs/benchmarks.md: DIS 27 ms a pair, camera 3, grid 2; 80 pairs, and decoding"
    ),
    "mask_core_seconds": Input(
        0.42, "per_clip.motion_mask on random vectors, 81 frames of 60x104, once on one core"
    ),
    "cores_per_gpu": Input(8, "an assumption"),
    "latent_mb": Input(16 * 21 * 60 * 104 * 2 / 1e6, "float16, 16 channels, 21 latent frames of 60x104"),
    "text_mb": Input(
        120 * 4096 * 2 / 1e6, "bfloat16, 120 tokens of 4096 numbers: an assumption of the length"
    ),
    "flow_mb": Input(81 * 60 * 104 * (2 + 2) * 2 / 1e6, "float16, flow and residual at stride 8"),
    "confidence_mb": Input(81 * 60 * 104 / 1e6, "uint8"),
    "mask_mb": Input(21 * 60 * 104 * 2 / 1e6, "float16"),
    "sketch_mb": Input(16384 / 8 / 1e6, "params.yaml: sketches.dim and sketches.storage, one bit a number"),
    "copies": Input(2, "docs/decisions/0005: the work store and DVC's cache"),
    "dollars_per_gpu_hour": Input(2, "an assumption: put in your own"),
}


def main(
    clips: Annotated[int, typer.Option(min=1, help="Clips of the pool.")] = 1_000_000,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs.")] = 64,
    change: Annotated[list[str] | None, typer.Option("--set", help="NAME=NUMBER; repeatable.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Print the table of docs/scaling.md."""
    inputs = changed(dict(INPUTS), change or [])
    print("| input | value | source |\n|---|---|---|")
    for name, (value, source) in inputs.items():
        print(f"| `{name}` | {value:.4g} | {source} |")
    numbers = scaled({name: given.value for name, given in inputs.items()}, clips, gpus)
    print(f"\n{clips:,} clips, {gpus} GPUs\n\n| | |\n|---|---|")
    for name, value in numbers.items():
        print(f"| `{name}` | {value:,.0f} |" if value >= 100 else f"| `{name}` | {value:.3g} |")
    if json_file:
        write_json(json_file, numbers)


def changed(inputs: dict[str, Input], changes: list[str]) -> dict[str, Input]:
    """The inputs with a person's own numbers in them."""
    for change in changes:
        name, _, value = change.partition("=")
        if name not in inputs or not value:
            raise typer.BadParameter(f"--set {change}: NAME=NUMBER, where NAME is one of {', '.join(inputs)}")
        inputs[name] = Input(float(value), "given")
    return inputs


def scaled(given: dict[str, float], clips: int, gpus: int) -> dict[str, float]:
    """The arithmetic: nothing but products."""
    sketch = given["sketch_over_backward"] * given["num_sigmas"]
    cores = gpus * given["cores_per_gpu"]
    per_clip = sum(given[f"{name}_mb"] for name in ("latent", "text", "flow", "confidence", "mask", "sketch"))

    def hours(seconds: float, workers: float) -> float:
        return clips * seconds / workers / 3600

    def on_gpus(name: str, seconds: float) -> dict[str, float]:
        wall = hours(seconds, gpus)
        return {
            f"{name}_hours": wall,
            f"{name}_gpu_hours": wall * gpus,
            f"{name}_dollars": wall * gpus * given["dollars_per_gpu_hour"],
        }

    return {
        "num_shards": math.ceil(clips / given["shard_size"]),
        "shards_per_gpu": clips / given["shard_size"] / gpus,
        **on_gpus("paper", given["paper_seconds"]),
        **on_gpus("a100", given["a100_backward_seconds"] * sketch),
        **on_gpus("h100", given["h100_backward_seconds"] * sketch),
        "lost_with_a_worker_gpu_minutes": given["shard_size"] * given["a100_backward_seconds"] * sketch / 60,
        "optical_flow_hours": hours(given["flow_core_seconds"], cores),
        "masks_hours": hours(given["mask_core_seconds"], cores),
        "tb_kept": clips * per_clip / 1e6,
        "tb_on_disk": clips * per_clip * given["copies"] / 1e6,
        "gb_sketches": clips * given["sketch_mb"] / 1e3,
        "mb_per_shard_latents": given["shard_size"] * (given["latent_mb"] + given["text_mb"]),
    }


if __name__ == "__main__":
    typer.run(main)
