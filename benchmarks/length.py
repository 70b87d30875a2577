"""Does influence follow a clip's length? Before and after what standardises it, on clips of unequal length.

    python benchmarks/length.py --json length.json

Needs a finished `make repro`. The beginning of a latent is the latent of the clip's beginning, since the VAE
looks backwards only: each pool clip is cut to two, three or four latent frames, by chance.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tqdm import tqdm

from motive.maths.packing import unpack
from motive.maths.statistics import percentile_interval, rank_correlation
from motive.models.backbones import padded
from motive.params import load_params
from motive.stages.sketches import sketcher
from motive.store.shards import locate, read_clip_tensors

LENGTHS = (2, 3, 4)  # latent frames: 5, 9 and 13 frames
DRAWS = 1000


def main(
    clips: Annotated[int, typer.Option(min=10, help="Of the pool.")] = 500,
    json_path: Annotated[Path | None, typer.Option("--json", help="Flat numbers.")] = None,
) -> None:
    """Sketch both parts, compare in three ways, and print how each follows length."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pool, norms, lengths = _sketches("pool", clips, rng)
    queries, _, _ = _sketches("queries", None, None)
    cosine = (pool @ queries.T).mean(dim=1).numpy()
    ways = {
        "summed": cosine * norms * lengths,  # dot products of gradients of the summed loss
        "mean": cosine * norms,  # of the loss divided by its frames, as in the paper
        "cosine": cosine,  # what Motive ranks by: the divisor cancels
    }
    numbers: dict[str, float] = {"num_clips": len(pool)}
    for name, influence in ways.items():
        rows = rng.integers(len(pool), size=(DRAWS, len(pool)))
        drawn = [rank_correlation(influence[row], lengths[row]) for row in rows]
        low, high = percentile_interval(np.array(drawn))
        values = (rank_correlation(influence, lengths), low, high)
        numbers |= {
            f"length_{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)
        }
        typer.echo("{:8} {:+.2f} ({:+.2f} to {:+.2f})".format(name, *values))
    if json_path:
        json_path.write_text(json.dumps(numbers, indent=1) + "\n")


def _sketches(
    part: str, number: int | None, rng: np.random.Generator | None
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Unit sketches [n, D], norms of the gradients and lengths in latent frames [n], of clips that move."""
    params = load_params()
    sketch_clip = sketcher(params.sketches, params.model, "float32", params.clips.fps)
    latents, masks = (locate(Path("data") / part / stage) for stage in ("latents", "masks"))
    ids = list(latents)[:number]
    weights = dict(read_clip_tensors(masks, ids))
    rows = []
    for clip_id, tensors in tqdm(read_clip_tensors(latents, ids), total=len(ids), desc=part, unit="clip"):
        length = int(rng.choice(LENGTHS)) if rng is not None else tensors["latent"].shape[1]
        mask = weights[clip_id]["mask"][:length]
        text = padded([tensors["text"].float()], params.latents.max_tokens)[0]
        kept = sketch_clip(tensors["latent"][:, :length], text, mask)
        if kept["ok"]:
            rows.append((unpack(kept["sketch"])[0], float(kept["norm"][0]), length))
    sketches, norms, lengths = zip(*rows, strict=True)
    return torch.stack(sketches), np.array(norms), np.array(lengths, dtype=float)


if __name__ == "__main__":
    typer.run(main)
