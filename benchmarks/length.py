"""Does influence follow a clip's length? Before and after what standardises it, on clips of unequal length.

    python benchmarks/length.py --json length.json

Needs a finished `make repro`. The beginning of a latent is the latent of the clip's beginning, since the VAE
looks backwards only: each pool clip is cut to two, three or four latent frames, by chance.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.maths.packing import unpack
from motive.maths.statistics import percentile_interval, rank_correlation
from motive.params import load_params
from motive.stages.sketches import sketcher
from motive.store.files import write_json
from motive.store.shards import locate, read_clip_tensors
from testing.measuring import JsonFile

LENGTHS = (2, 3, 4)  # latent frames: 5, 9 and 13 frames
DRAWS = 1000


class Sketched(NamedTuple):
    """A clip's unit sketch [D], the norm of its gradient, and its length in latent frames."""

    unit: torch.Tensor
    norm: float
    length: int


def main(
    clips: Annotated[int, typer.Option(min=10, help="Of the pool.")] = 500,
    json_file: JsonFile = None,
) -> None:
    """Sketch both splits, compare in three ways, and print how each follows length."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pool = list(sketched("pool", clips, rng))
    unit = torch.stack([clip.unit for clip in pool])
    queries = torch.stack([clip.unit for clip in sketched("queries", None, None)])
    cosine = (unit @ queries.T).mean(dim=1).numpy()
    norms = np.array([clip.norm for clip in pool])
    lengths = np.array([clip.length for clip in pool], dtype=float)
    ways = {
        "summed": cosine * norms * lengths,  # dot products of gradients of the summed loss
        "mean": cosine * norms,  # of the loss divided by its frames, as in the paper
        "cosine": cosine,  # what Motive ranks by: the divisor cancels
    }
    numbers: dict[str, float] = {"num_clips": len(pool)}
    for name, influence in ways.items():
        values = correlation(influence, lengths, rng)
        keys = (f"length_{name}", f"length_{name}_low", f"length_{name}_high")
        numbers |= dict(zip(keys, values, strict=True))
        typer.echo("{:8} {:+.2f} ({:+.2f} to {:+.2f})".format(name, *values))
    if json_file:
        write_json(json_file, numbers)


def correlation(
    influence: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Rank correlation of influence and length, and the ends of its interval by bootstrap over clips."""
    draws = rng.integers(len(lengths), size=(DRAWS, len(lengths)))
    low, high = percentile_interval(np.array([rank_correlation(influence[n], lengths[n]) for n in draws]))
    return rank_correlation(influence, lengths), low, high


def sketched(split: str, number: int | None, rng: np.random.Generator | None) -> Iterator[Sketched]:
    """Yield the clips of a split that move, cut by chance if there is a generator."""
    params = load_params()
    max_tokens = params.latents.max_tokens
    sketch_clip = sketcher(params.sketches, params.model, max_tokens, "float32", params.clips.fps)
    data = Path("data") / split
    latents = locate(data / "latents")
    ids = list(latents)[:number]
    masks = dict(read_clip_tensors(locate(data / "masks"), ids))
    for clip_id, clip in tqdm(read_clip_tensors(latents, ids), total=len(ids), desc=split, unit="clip"):
        length = clip["latent"].shape[1] if rng is None else int(rng.choice(LENGTHS))
        cut = clip | {"latent": clip["latent"][:, :length]}
        sketch = sketch_clip(cut, masks[clip_id]["mask"][:length])
        if sketch["ok"]:
            yield Sketched(unpack(sketch["sketch"])[0], float(sketch["norm"][0]), length)


if __name__ == "__main__":
    typer.run(main)
