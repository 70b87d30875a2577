"""How well do cheap influences keep the order of exact ones?"""

import numpy as np

from motive.maths.statistics import rank_correlations

TOP = 0.1  # the share of the pool whose overlap is counted
FIRST = 20  # how far NDCG looks
MEASURES = ("spearman", "top10_overlap", "ndcg20")


def measures(exact: np.ndarray, cheap: np.ndarray) -> dict[str, float]:
    """Of influences [N,Q] against the exact ones, means over the queries."""
    spearman = rank_correlations(exact.astype(float), cheap.astype(float))
    values = (float(np.mean(spearman)), top_overlap(exact, cheap), ndcg(exact, cheap))
    return dict(zip(MEASURES, values, strict=True))


def top_overlap(exact: np.ndarray, cheap: np.ndarray) -> float:
    """The share of the exactly best clips that are among the best by the cheap influence, too."""
    num_top = max(1, round(TOP * len(exact)))
    best = np.argsort(-exact, axis=0, kind="stable")[:num_top]
    chosen = np.argsort(-cheap, axis=0, kind="stable")[:num_top]
    shares = [len(np.intersect1d(b, c)) / num_top for b, c in zip(best.T, chosen.T, strict=True)]
    return float(np.mean(shares))


def ndcg(exact: np.ndarray, cheap: np.ndarray) -> float:
    """Of the first clips, gains being exact influences from 0 for a query's worst clip to 1 for its best."""
    gains = (exact - exact.min(0)) / (exact.max(0) - exact.min(0))
    discount = 1 / np.log2(np.arange(2, FIRST + 2))[:, None]
    order = np.argsort(-cheap, axis=0, kind="stable")[:FIRST]
    ideal = -np.sort(-gains, axis=0)[:FIRST]
    return float(((np.take_along_axis(gains, order, 0) * discount).sum(0) / (ideal * discount).sum(0)).mean())
