"""Muon in float32, a batch of matrices at a time.

`torch.optim.Muon` orthogonalises each matrix alone, in bfloat16. On a processor without bfloat16 arithmetic
its step takes many times as long.
"""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration (Jordan et al., 2024)
ITERATIONS = 5


def orthogonalised(G: Float[Tensor, "N R C"]) -> Float[Tensor, "N R C"]:
    """Each matrix with its singular values pushed near 1."""
    a, b, c = COEFFICIENTS
    X = G / (G.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = X.shape[-2] > X.shape[-1]
    if tall:
        X = X.mT
    for _ in range(ITERATIONS):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, on matrices; those of one shape go together."""

    def __init__(
        self, matrices: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # ty: the base class allows a closure, nobody here has one
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for matrices in by_shape.values():
                self._move(matrices, group)

    def _move(self, matrices: list[nn.Parameter], group: dict) -> None:
        """One step of matrices of one shape."""
        momentum = group["momentum"]
        looked_ahead = []
        for p in matrices:
            assert p.grad is not None
            buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - momentum)
            looked_ahead.append(p.grad.lerp(buffer, momentum))

        rows, columns = matrices[0].shape
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        for p, direction in zip(matrices, orthogonalised(torch.stack(looked_ahead)), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(direction, alpha=-rate)
