"""Influence of pool clips on query clips: the cosine of their sketches."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

BLOCK = 65_536  # pool clips at a time: what is held beside the result


def influence(
    pool: Float[Tensor, "N D"], queries: Float[Tensor, "Q D"], ok: Bool[Tensor, "N"]
) -> Float32[Tensor, "N Q"]:
    """Cosine of unit-norm sketches, block by block; a row that is not ok is zero, whatever it holds."""
    result = torch.zeros(len(pool), len(queries))
    columns = queries.float().T
    for start in range(0, len(pool), BLOCK):
        rows = slice(start, start + BLOCK)
        # Chosen, not multiplied by 0: 0 * NaN is NaN, and one bad clip must not spoil the others.
        result[rows] = torch.where(ok[rows, None], pool[rows].float() @ columns, 0.0)
    return result


class Extreme(NamedTuple):
    """One pool clip among the best or the worst of a motion."""

    motion: str
    row: int
    rank: int  # 0 best, among the ok clips
    influence: float  # mean over the motion's queries


def extremes(
    influence: Float32[np.ndarray, "N Q"], ok: Bool[np.ndarray, "N"], motions: list[str], count: int
) -> Iterator[Extreme]:
    """Yield the `count` best and `count` worst clips of each motion, by mean influence, in rank order."""
    rows = np.flatnonzero(ok)
    for motion in sorted(set(motions)):
        columns = [q for q, other in enumerate(motions) if other == motion]
        mean = influence[:, columns].mean(axis=1, dtype=np.float64)
        order = rows[np.argsort(-mean[rows], kind="stable")]
        ranks = range(len(order))
        for rank in sorted({*ranks[:count], *ranks[-count:]}):
            yield Extreme(motion, int(order[rank]), rank, float(mean[order[rank]]))
