"""The reference: influence of whole gradients, without projection and without a store.

The queries' gradients are kept; a pool clip's is met with them parameter by parameter while it is made, and
dropped. Memory: the queries' gradients, and the largest parameter.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.maths.gradients import read_gradient

Kept = dict[str, Float[Tensor, "Q n"]]  # parameter -> the gradient of each query, of unit norm over all


def keep_gradients(losses: Iterable[Float[Tensor, ""]], model: nn.Module) -> Kept:
    """The gradients of some losses, float32, each of unit norm; one graph is alive at a time."""
    rows: list[dict[str, Tensor]] = []
    for loss in losses:
        row: dict[str, Tensor] = {}
        read_gradient(loss, model, lambda name, g, row=row: row.update({name: g.float().flatten().clone()}))
        length = torch.stack([g.square().sum() for g in row.values()]).sum().sqrt().clamp_min(1e-30)
        rows.append({name: g / length for name, g in row.items()})  # of nothing: nothing
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def exact_cosines(loss: Float[Tensor, ""], model: nn.Module, kept: Kept) -> Float[Tensor, "Q"]:
    """The paper's influence without projection: q g / |g|, the cosine with each q of those kept."""
    dots = torch.zeros(len(next(iter(kept.values()))))
    square = torch.zeros(())

    def meet(name: str, gradient: Tensor) -> None:
        flat = gradient.float().flatten()
        dots.add_((kept[name] @ flat).cpu())
        square.add_(flat.square().sum().cpu())

    read_gradient(loss, model, meet)
    return dots / square.sqrt().clamp_min(1e-30)
