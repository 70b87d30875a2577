"""Is an attribution right? Its influences held against retraining, corrupted clips and the truth.

The linear datamodelling score (LDS; Park et al. 2023, TRAK): the rank correlation, over random subsets of the
pool, of the influence that a subset sums up to with the loss of a model that was trained on it.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from scipy.stats import t as student

Draws = Float[np.ndarray, "draws"]


# ---- what retraining says


def rank_correlations(a: Float[np.ndarray, "M Q"], b: Float[np.ndarray, "M Q"]) -> Float[np.ndarray, "Q"]:
    """Spearman's of each column of `a` with that of `b`; a constant column correlates with nothing: 0."""
    a, b = (ranks - ranks.mean(0) for ranks in (rankdata(a, axis=0), rankdata(b, axis=0)))
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), norm, out=np.zeros(len(norm)), where=norm > 0)


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
    rng, scores = np.random.default_rng(seed), np.empty(draws)
    for draw in range(draws):
        rows, columns = (rng.integers(size, size=size) for size in losses.shape)
        again = np.ix_(rows, columns)
        scores[draw] = lds(predicted[again], losses[again])
    return scores


def interval(draws: Draws) -> tuple[float, float]:
    """The 95 % interval of bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def change_interval(changes: Float[np.ndarray, "seeds n"]) -> tuple[float, float]:
    """The 95 % interval of the mean change, training seeds and clips both being a sample.

    Two crossed random effects: the variance of the mean is (MS_seeds + MS_clips - MS_rest) / (seeds n), its
    degrees of freedom are Satterthwaite's. A bootstrap of a few seeds would be far too narrow. What one seed
    alone leaves open it can't say: then the interval is of clips alone.
    """
    (S, n), mean = changes.shape, changes.mean()
    of_seed, of_clip = changes.mean(1), changes.mean(0)
    clips = S * of_clip.var(ddof=1)
    seeds = n * of_seed.var(ddof=1) if S > 1 else 0.0
    rest = ((changes - of_seed[:, None] - of_clip + mean) ** 2).sum() / max(1, (S - 1) * (n - 1))
    total = max(seeds + clips - rest, seeds, clips)
    if total == 0:
        return float(mean), float(mean)
    spread = clips**2 / (n - 1) + (seeds**2 + rest**2 / (n - 1)) / max(1, S - 1)
    half = student.ppf(0.975, total**2 / spread) * (total / (S * n)) ** 0.5
    return float(mean - half), float(mean + half)


# ---- what corrupted copies say


def auc(good: Float[np.ndarray, "n"], bad: Float[np.ndarray, "m"]) -> float:
    """How often a good clip scores above a bad one, a tie counting half; -inf is a score."""
    ranks = rankdata(np.concatenate([good, bad]))[: len(good)]
    return float((ranks.sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad)))


def corrupted_aucs(scores: Float[np.ndarray, "n ways"]) -> Float[np.ndarray, "ways-1"]:
    """Of each corruption, the AUC of the originals (column 0) against their copies (the others)."""
    return np.array([auc(scores[:, 0], copies) for copies in scores.T[1:]])


def auc_draws(scores: Float[np.ndarray, "n ways"], seed: int, draws: int) -> Draws:
    """Mean AUC of all corruptions, on originals drawn again with replacement, each with its copies."""
    rng, n = np.random.default_rng(seed), len(scores)
    return np.array([corrupted_aucs(scores[rng.integers(n, size=n)]).mean() for _ in range(draws)])


# ---- what the truth says


def precision_at(
    k: int, scores: Float[np.ndarray, "N Q"], relevant: Bool[np.ndarray, "N Q"]
) -> Float[np.ndarray, "Q"]:
    """Of each query's k best clips, the share that is relevant."""
    best = np.argsort(-scores, axis=0, kind="stable")[:k]
    return np.take_along_axis(relevant, best, axis=0).mean(0)
