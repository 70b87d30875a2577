"""What else does influence follow? Rank correlation with what has nothing to do with motion."""

import numpy as np
from jaxtyping import Float

from motive.maths.validity import rank_correlations


def rank_correlation(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    """Spearman's, where both are numbers; NaN if one of them has a single value."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(rank_correlations(x[:, None], y[:, None])[0])
