"""Attributions that no gradient is needed for: what any other must beat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d, normalize
from tqdm import tqdm

from motive.clips.table import FRAME_KEYS, clip_path, clip_span, read_clips
from motive.params import Params
from motive.store.files import read_table
from motive.store.layout import stage_folder
from motive.store.shards import locate, read_clip_tensors
from motive.validation.variants import folder_of
from motive.video.reading import read_frames

PIXELS = 16  # height and width of a frame whose pixels are compared
CELLS = (4, 4, 4)  # frames, height and width of a latent that is compared


class Subject(NamedTuple):
    """The clips in question, by split: ids in row order."""

    pool: list[str]
    corrupted: list[str]
    queries: list[str]


Scores = tuple[Float[np.ndarray, "N Q"], Float[np.ndarray, "M Q"]]  # of the pool and of the copies
Features = Callable[[str, list[str]], list[Tensor]]  # of a split's clips: blocks [n,F]


def at_random(subject: Subject, root: str, params: Params) -> Scores:
    """A random number for each clip and query."""
    rng = np.random.default_rng(0)
    num_queries = len(subject.queries)
    pool = rng.standard_normal((len(subject.pool), num_queries))
    return pool, rng.standard_normal((len(subject.corrupted), num_queries))


def by_motion_magnitude(subject: Subject, root: str, params: Params) -> Scores:
    """Mean speed of all pixels, whatever the query."""

    def speeds(split: str, ids: list[str]) -> np.ndarray:
        stats = read_table(folder_of(root, "default", split) / "masks/mask_stats.parquet")
        speed = stats.set_index("clip_id")["motion"].reindex(ids).fillna(0).to_numpy(float)
        return np.repeat(speed[:, None], len(subject.queries), axis=1)

    return speeds("pool", subject.pool), speeds("corrupted", subject.corrupted)


def by_pixels(subject: Subject, root: str, params: Params) -> Scores:
    """Likeness of the frames, small."""
    small = params.clips.model_dump(include=FRAME_KEYS) | {"height": PIXELS, "width": PIXELS}

    def pixels(split: str, ids: list[str]) -> list[Tensor]:
        rows: list[Any] = list(read_clips(split).set_index("clip_id", drop=False).loc[ids].itertuples())
        bar = tqdm(rows, desc=f"pixels {split}", unit="clip")
        frames = [read_frames(clip_path(row), **small, **clip_span(row)) for row in bar]
        return [torch.from_numpy(np.stack(frames)).float().flatten(1)]

    return _likeness(pixels, subject, root)


def by_features(subject: Subject, root: str, params: Params) -> Scores:
    """Likeness of the latents on a coarse grid, and as much of the captions' mean embeddings."""

    def coarse(split: str, ids: list[str]) -> list[Tensor]:
        stored = dict(read_clip_tensors(locate(stage_folder("latents", split)), ids))
        latents = [adaptive_avg_pool3d(stored[one]["latent"].float(), CELLS).flatten() for one in ids]
        return [torch.stack(latents), torch.stack([stored[one]["text"].float().mean(0) for one in ids])]

    return _likeness(coarse, subject, root)


BASELINES: dict[str, Callable[[Subject, str, Params], Scores]] = {
    "random": at_random,
    "motion_magnitude": by_motion_magnitude,
    "pixels": by_pixels,
    "features": by_features,
}


def _likeness(features: Features, subject: Subject, root: str) -> Scores:
    """Mean cosine over blocks of features, less the pool's mean, which all clips share."""
    pool = features("pool", subject.pool)
    copies = features(f"{root}/corrupted", subject.corrupted)
    queries = features("queries", subject.queries)
    return _mean_cosines(pool, queries, pool), _mean_cosines(copies, queries, pool)


def _mean_cosines(blocks: list[Tensor], queries: list[Tensor], pool: list[Tensor]) -> np.ndarray:
    cosines = []
    for block, of_queries, of_pool in zip(blocks, queries, pool, strict=True):
        mean = of_pool.mean(0)
        cosines.append(normalize(block - mean, dim=1) @ normalize(of_queries - mean, dim=1).T)
    return torch.stack(cosines).mean(0).numpy()
