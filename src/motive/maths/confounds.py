"""What else does influence follow? Rank correlation with what has nothing to do with motion."""

import numpy as np
import pandas as pd
from jaxtyping import Float32


def confounds(
    facts: pd.DataFrame, cosine: Float32[np.ndarray, "N"], norm: Float32[np.ndarray, "N"]
) -> pd.DataFrame:
    """Spearman correlation of each column of `facts` with influence; NaN where a column has one value.

    `inner_product`: with the inner product of gradients, which grows with their length; `influence`: with the
    cosine, so after each clip was brought to unit norm.
    """
    columns = {"inner_product": cosine * norm, "influence": cosine}
    ranks = facts.rank()
    found = {name: ranks.corrwith(pd.Series(values, facts.index).rank()) for name, values in columns.items()}
    return pd.DataFrame(found).rename_axis("fact")
