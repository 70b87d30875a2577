"""Attributions that no gradient is needed for: what any other must beat."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d, normalize
from tqdm import tqdm

from motive.clips.table import STANDARD, clip_path, clip_span, read_clips
from motive.params import Params
from motive.store.files import read_table
from motive.store.shards import locate, read_clip_tensors
from motive.validation.variants import folder_of
from motive.video.reading import read_frames

PIXELS = 16  # height and width of a frame whose pixels are compared
CELLS = (4, 4, 4)  # frames, height and width of a latent that is compared


class Subject(NamedTuple):
    """The clips in question, by part: ids in row order."""

    pool: list[str]
    corrupted: list[str]
    queries: list[str]


Scores = tuple[Float[np.ndarray, "N Q"], Float[np.ndarray, "M Q"]]  # of the pool and of the copies


def at_random(subject: Subject, root: str, params: Params) -> Scores:
    """A random number for each clip and query."""
    rng, (pool, copies, queries) = np.random.default_rng(0), map(len, subject)
    return rng.standard_normal((pool, queries)), rng.standard_normal((copies, queries))


def by_motion_magnitude(subject: Subject, root: str, params: Params) -> Scores:
    """Mean speed of all pixels, whatever the query."""
    speeds = []
    for part, ids in (("pool", subject.pool), ("corrupted", subject.corrupted)):
        stats = read_table(folder_of(root, "default", part) / "masks/mask_stats.parquet").set_index("clip_id")
        speed = stats["motion"].reindex(ids).fillna(0).to_numpy(float)
        speeds.append(np.repeat(speed[:, None], len(subject.queries), axis=1))
    return speeds[0], speeds[1]


def by_pixels(subject: Subject, root: str, params: Params) -> Scores:
    """Likeness of the frames, small."""
    how = params.clips.model_dump(include=STANDARD) | {"height": PIXELS, "width": PIXELS}

    def small(part: str, ids: list[str]) -> list[Tensor]:
        rows: list[Any] = list(read_clips(part).set_index("clip_id", drop=False).loc[ids].itertuples())
        bar = tqdm(rows, desc=f"pixels {part}", unit="clip")
        frames = [read_frames(clip_path(row), **how, **clip_span(row)) for row in bar]
        return [torch.from_numpy(np.stack(frames)).float().flatten(1)]

    return _likeness(small, subject, root)


def by_features(subject: Subject, root: str, params: Params) -> Scores:
    """Likeness of the latents on a coarse grid, and as much of the captions' mean embeddings."""

    def coarse(part: str, ids: list[str]) -> list[Tensor]:
        stored = dict(read_clip_tensors(locate(Path("data") / part / "latents"), ids))
        latents = [adaptive_avg_pool3d(stored[one]["latent"].float(), CELLS).flatten() for one in ids]
        return [torch.stack(latents), torch.stack([stored[one]["text"].float().mean(0) for one in ids])]

    return _likeness(coarse, subject, root)


BASELINES: dict[str, Callable[[Subject, str, Params], Scores]] = {
    "random": at_random,
    "motion_magnitude": by_motion_magnitude,
    "pixels": by_pixels,
    "features": by_features,
}


def _likeness(features: Callable[[str, list[str]], list[Tensor]], subject: Subject, root: str) -> Scores:
    """Mean cosine over blocks of features [n,F], less the pool's mean, which all clips share."""
    pool = features("pool", subject.pool)
    copies, queries = features(f"{root}/corrupted", subject.corrupted), features("queries", subject.queries)
    means = [block.mean(0) for block in pool]

    def units(blocks: list[Tensor]) -> list[Tensor]:
        return [normalize(block - mean, dim=1) for block, mean in zip(blocks, means, strict=True)]

    def cosines(blocks: list[Tensor]) -> np.ndarray:
        pairs = zip(units(blocks), units(queries), strict=True)
        return torch.stack([one @ other.T for one, other in pairs]).mean(0).numpy()

    return cosines(pool), cosines(copies)
