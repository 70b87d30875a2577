"""Is an attribution right? Its influences held against retraining, corrupted clips and the truth.

The linear datamodelling score (LDS; Park et al. 2023, TRAK): the rank correlation, over random subsets of the
pool, of the influence that a subset sums up to with the loss of a model that was trained on it.
"""

import numpy as np
from jaxtyping import Bool, Float

from motive.maths.statistics import auc, rank_correlations

Draws = Float[np.ndarray, "draws"]


# ---- what retraining says


def subset_sums(
    influence: Float[np.ndarray, "N Q"], subsets: Bool[np.ndarray, "M N"]
) -> Float[np.ndarray, "M Q"]:
    """What the clips of each subset sum up to: the prediction of how much training on it helps a query."""
    return subsets.astype(np.float64) @ influence.astype(np.float64)


def lds(predicted: Float[np.ndarray, "M Q"], losses: Float[np.ndarray, "M Q"]) -> float:
    """Mean over queries of the rank correlation over subsets of what was predicted with the fall in loss."""
    return float(rank_correlations(predicted, -losses).mean())


def lds_draws(
    predicted: Float[np.ndarray, "M Q"], losses: Float[np.ndarray, "M Q"], seed: int, draws: int
) -> Draws:
    """LDS on subsets and queries drawn again with replacement.

    The same seed draws the same for each attribution: the draws of two can be subtracted.
    """
    rng = np.random.default_rng(seed)
    scores = np.empty(draws)
    for draw in range(draws):
        drawn = np.ix_(*(rng.integers(size, size=size) for size in losses.shape))
        scores[draw] = lds(predicted[drawn], losses[drawn])
    return scores


# ---- what corrupted copies say


def corrupted_aucs(scores: Float[np.ndarray, "n ways"]) -> Float[np.ndarray, "ways-1"]:
    """Of each corruption, the AUC of the originals (column 0) against their copies (the others)."""
    return np.array([auc(scores[:, 0], copies) for copies in scores.T[1:]])


def auc_draws(scores: Float[np.ndarray, "n ways"], seed: int, draws: int) -> Draws:
    """Mean AUC of all corruptions, on originals drawn again with replacement, each with its copies."""
    rng = np.random.default_rng(seed)
    n = len(scores)
    return np.array([corrupted_aucs(scores[rng.integers(n, size=n)]).mean() for _ in range(draws)])


# ---- what the truth says


def precision_at(
    k: int, scores: Float[np.ndarray, "N Q"], relevant: Bool[np.ndarray, "N Q"]
) -> Float[np.ndarray, "Q"]:
    """Of each query's k best clips, the share that is relevant."""
    best = np.argsort(-scores, axis=0, kind="stable")[:k]
    return np.take_along_axis(relevant, best, axis=0).mean(0)
