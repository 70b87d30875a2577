"""From influence to an order of the pool: each query votes for the clips above its own percentile."""

import numpy as np
from jaxtyping import Bool, Float32, Int64

BLOCK = 16_384  # clips at a time, of each of which all draws are held


def votes(
    influence: Float32[np.ndarray, "N Q"], ok: Bool[np.ndarray, "N"], percentile: float
) -> Int64[np.ndarray, "N"]:
    """How many queries vote for each clip: its influence exceeds the query's percentile over ok clips."""
    count = np.zeros(len(influence), np.int64)
    if ok.any():
        for column in influence.T:  # one at a time: the whole matrix is not held twice
            count += ok & (column > np.percentile(column[ok], percentile))
    return count


def votes_against(
    influence: Float32[np.ndarray, "N Q"], ok: Bool[np.ndarray, "N"], percentile: float
) -> Int64[np.ndarray, "N"]:
    """How many queries a clip is among the worst for: the same share of clips as get their votes."""
    return votes(-influence, ok, percentile)


def interval(
    influence: Float32[np.ndarray, "N Q"], seed: int = 0, draws: int = 200, level: float = 0.95
) -> tuple[Float32[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
    """Of each clip's mean influence, from drawing the queries again with replacement: low and high end.

    How much it would change with other queries of the same kind; of one query nothing can be said (NaN).
    """
    num_clips, num_queries = influence.shape
    ends = np.full((2, num_clips), np.nan, np.float32)
    if num_queries > 1:
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(num_queries, np.full(num_queries, 1 / num_queries), size=draws)
        weights = (weights.T / num_queries).astype(np.float32)
        tails = [(1 - level) / 2, (1 + level) / 2]
        for start in range(0, num_clips, BLOCK):
            rows = slice(start, start + BLOCK)
            ends[:, rows] = np.quantile(influence[rows] @ weights, tails, axis=1)
    return ends[0], ends[1]


def mean_influence(influence: Float32[np.ndarray, "N Q"]) -> Float32[np.ndarray, "N"]:
    """Mean over the queries, summed in double precision, so that their order does not show."""
    return influence.mean(axis=1, dtype=np.float64).astype(np.float32)


def rank(
    votes: Int64[np.ndarray, "N"],
    mean: Float32[np.ndarray, "N"],
    ok: Bool[np.ndarray, "N"],
    clip_ids: list[str],
) -> Int64[np.ndarray, "N"]:
    """Position of each clip, 0 best: ok first, then votes, then mean influence, then `clip_id`."""
    order = np.lexsort((np.array(clip_ids, dtype=str), -mean, -votes, ~ok))  # the last key decides first
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
