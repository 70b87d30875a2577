"""From influence to an order of the pool: each query votes for the clips above its own percentile."""

import numpy as np
from jaxtyping import Bool, Float32, Int64


def votes(
    influence: Float32[np.ndarray, "N Q"], ok: Bool[np.ndarray, "N"], percentile: float
) -> Int64[np.ndarray, "N"]:
    """How many queries vote for each clip: its influence exceeds the query's percentile over ok clips."""
    # The paper's votes: of each query one for every clip with influence > its percentile tau.
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
