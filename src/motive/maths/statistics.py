"""How sure a number is: every 95 % interval, rank correlation and AUC of Motive, in numpy alone.

Which interval a sample asks for:

- a mean over clips: `bootstrap_interval`; of each row of a matrix: `row_bootstrap_intervals`;
- a mean over clips of motions, which are a sample too: `nested_bootstrap_interval`;
- a mean over training seeds and clips, a few seeds: `crossed_t_interval`; many: `crossed_bootstrap_interval`;
- anything else: draw it again, and take `percentile_interval` of the draws.

An interval is (low, high). Draws depend on the seed alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

BLOCK = 16_384  # rows at a time, of each of which all draws are held

Interval = tuple[float, float]


# ---- intervals


def percentile_interval(draws: Float[np.ndarray, "draws"]) -> Interval:
    """The 95 % interval of bootstrap draws: their percentiles 2.5 and 97.5 (Efron 1979)."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_interval(values: Float[np.ndarray, "n"], seed: int, draws: int = 10_000) -> Interval:
    """The 95 % interval of the mean of `values`, by drawing them with replacement.

    For a paired comparison `values` are the differences.
    """
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        rows = rng.integers(len(values), size=len(values))
        means.append(values[rows].mean())
    return percentile_interval(np.array(means))


def nested_bootstrap_interval(
    values: Float[np.ndarray, "n"], groups: Sequence[str], seed: int, draws: int = 10_000
) -> Interval:
    """The 95 % interval of the mean, by drawing groups with replacement, and of each its values likewise.

    Values of one group are alike, so that they alone would say too much (Davison and Hinkley 1997, 3.8).
    """
    rng = np.random.default_rng(seed)
    names, rows = np.unique(np.array(groups), return_inverse=True)
    chosen = rng.integers(len(names), size=(draws, len(names)))
    sums = np.zeros(chosen.shape)
    counts = np.zeros(chosen.shape)
    for group in range(len(names)):
        members = values[rows == group]
        drawn = rng.choice(members, size=((chosen == group).sum(), len(members)))
        sums[chosen == group] = drawn.sum(1)
        counts[chosen == group] = len(members)
    return percentile_interval(sums.sum(1) / counts.sum(1))


def row_bootstrap_intervals(
    values: Float32[np.ndarray, "N Q"],
    seed: int = 0,
    draws: int = 200,
    level: float = 0.95,
) -> tuple[Float32[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
    """Low and high ends for the mean of each row, by drawing the columns with replacement.

    All rows share the draws, so that a draw is a weighted sum of columns, and a million rows one product of
    matrices. Of a single column nothing can be said: NaN.
    """
    num_columns = values.shape[1]
    ends = np.full((2, len(values)), np.nan, np.float32)
    if num_columns > 1:
        shares = _drawn_shares(np.random.default_rng(seed), num_columns, draws).astype(np.float32)
        tails = [(1 - level) / 2, (1 + level) / 2]
        for start in range(0, len(values), BLOCK):
            block = slice(start, start + BLOCK)
            ends[:, block] = np.quantile(values[block] @ shares.T, tails, axis=1)
    return ends[0], ends[1]


def crossed_bootstrap_interval(
    values: Float[np.ndarray, "seeds clips"], seed: int, draws: int = 10_000
) -> Interval:
    """The 95 % interval of the mean, by drawing seeds and clips with replacement, each on its own.

    Every seed is measured on the same clips, so a draw takes whole rows and whole columns (Owen 2007, the
    pigeonhole bootstrap).
    """
    rng = np.random.default_rng(seed)
    num_seeds, num_clips = values.shape
    rows = _drawn_shares(rng, num_seeds, draws)
    columns = _drawn_shares(rng, num_clips, draws)
    return percentile_interval(((rows @ values) * columns).sum(axis=1))


def _drawn_shares(rng: np.random.Generator, count: int, draws: int) -> Float[np.ndarray, "draws count"]:
    """How often each of `count` things is drawn, with replacement, as a share: a draw adds up to 1."""
    return rng.multinomial(count, np.full(count, 1 / count), draws) / count


def crossed_t_interval(values: Float[np.ndarray, "seeds clips"]) -> Interval:
    """The 95 % interval of the mean, training seeds and clips both being a sample.

    Two crossed random effects: Var(mean) = (MS_seeds + MS_clips - MS_rest) / (seeds * clips), its degrees of
    freedom are Satterthwaite's (1946). A bootstrap of a few seeds would be far too narrow. What one seed
    alone leaves open it can't say: then the interval is of clips alone.
    """
    mean = values.mean()
    variance, df = _variance_of_mean(values)
    half = student_quantile(0.975, df) * variance**0.5 if variance else 0.0
    return float(mean - half), float(mean + half)


def _variance_of_mean(values: Float[np.ndarray, "S n"]) -> tuple[float, float]:
    """Of two crossed random effects, with its degrees of freedom."""
    S, n = values.shape
    ms_seeds, ms_clips, ms_rest = _mean_squares(values)
    total = max(ms_seeds + ms_clips - ms_rest, ms_seeds, ms_clips)
    if total == 0:
        return 0.0, math.inf
    # Satterthwaite: df = total^2 / sum of MS^2 / df.
    spread = ms_clips**2 / (n - 1) + (ms_seeds**2 + ms_rest**2 / (n - 1)) / max(1, S - 1)
    return total / (S * n), total**2 / spread


def _mean_squares(values: Float[np.ndarray, "S n"]) -> tuple[float, float, float]:
    """Of seeds, of clips and of what is left. Of one seed or clip nothing is left: `max` keeps 0 / 0 out."""
    S, n = values.shape
    of_seed = values.mean(1)  # [S]
    of_clip = values.mean(0)  # [n]
    residual = values - of_seed[:, None] - of_clip + values.mean()
    ms_seeds = n * of_seed.var(ddof=1) if S > 1 else 0.0
    ms_clips = S * of_clip.var(ddof=1)
    return ms_seeds, ms_clips, (residual**2).sum() / max(1, (S - 1) * (n - 1))


# ---- Student's t


def student_quantile(p: float, df: float) -> float:
    """t with P(T <= t) = p for Student's T of `df` degrees of freedom (any number above 0), 0.5 <= p < 1.

    By halving: the chance above t is I_x(df/2, 1/2) / 2 at x = df / (df + t^2), which falls as t grows.
    """
    tail = 2 * (1 - p)
    low = 0.0
    high = 1.0
    while _incomplete_beta(df / (df + high**2), df / 2, 0.5) > tail:
        low = high
        high = 2 * high
    middle = (low + high) / 2
    while low < middle < high:
        if _incomplete_beta(df / (df + middle**2), df / 2, 0.5) > tail:
            low = middle
        else:
            high = middle
        middle = (low + high) / 2
    return middle


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0 < x <= 1.

    By its continued fraction (Numerical Recipes 6.4; modified Lentz), on the side where it converges fast.
    """
    if x == 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    # I_x(a, b) = x^a (1 - x)^b / (a B(a, b)) times the fraction 1 / (1 + d_1 / (1 + d_2 / (1 + ...))).
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c = 1.0
    d = 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            fraction *= d * c
        if abs(fraction / before - 1) < 1e-16:
            break
    return math.exp(log_front) * fraction / a


# ---- ranks


def average_ranks(x: Float[np.ndarray, "N Q"]) -> Float[np.ndarray, "N Q"]:
    """Ranks 1 .. N within each column, equal values sharing the mean of theirs; all NaN where one is NaN."""
    ranks = np.empty(x.shape)
    for q in range(x.shape[1]):
        _, place, counts = np.unique(x[:, q], return_inverse=True, return_counts=True)
        below = np.cumsum(counts) - counts
        ranks[:, q] = (below + (counts + 1) / 2)[place]
    ranks[:, np.isnan(x).any(0)] = np.nan
    return ranks


def rank_correlations(a: Float[np.ndarray, "M Q"], b: Float[np.ndarray, "M Q"]) -> Float[np.ndarray, "Q"]:
    """Spearman's (1904) of each column of `a` with that of `b`: the correlation of their ranks.

    A constant column correlates with nothing: 0.
    """
    a = average_ranks(a)
    b = average_ranks(b)
    a -= a.mean(0)
    b -= b.mean(0)
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), norm, out=np.zeros(len(norm)), where=norm > 0)


def rank_correlation(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    """Spearman's over the rows where both are finite; NaN if one of them has a single value there."""
    both = np.isfinite(x) & np.isfinite(y)
    x = x[both]
    y = y[both]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(rank_correlations(x[:, None], y[:, None])[0])


def auc(good: Float[np.ndarray, "n"], bad: Float[np.ndarray, "m"]) -> float:
    """The chance that a good one scores above a bad one, a tie counting half; NaN if one side is empty.

    Mann and Whitney (1947): U / (n m), U = sum of the good ones' ranks - n (n + 1) / 2. -inf is a score.
    """
    n = len(good)
    m = len(bad)
    if not n or not m:
        return float("nan")
    ranks = average_ranks(np.concatenate([good, bad])[:, None])[:n]
    return float((ranks.sum() - n * (n + 1) / 2) / (n * m))
