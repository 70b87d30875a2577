"""Fastfood in blocks: a gradient of any length to D numbers whose inner products it keeps.

The paper projects with P = 1/(xi sqrt(D)) S Q G Pi Q B. Here each parameter is cut into
blocks of D entries, each with signs B and Gaussians G of its own, and the blocks are summed:

    P g = 1/D  S Q  sum_k G_k Pi Q B_k g_k

Q is linear, so one closing Hadamard transform serves all blocks and all parameters. Everything is drawn from
(seed, parameter name), so the result does not depend on order, shard, device or on the other parameters.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from motive.maths.seeds import seed_of


def hadamard(n: int) -> Float[Tensor, "n n"]:
    """The Hadamard matrix of a power of two, unnormalised: Q Q^T = n I."""
    if n < 1 or n & (n - 1):
        raise ValueError(f"sketches.dim: {n} is not a power of two")
    q = torch.ones(1, 1)
    while len(q) < n:
        q = torch.cat([torch.cat([q, q], 1), torch.cat([q, -q], 1)])
    return q


class Fastfood:
    """One projection for a set of named parameters; holds 3 bytes a parameter entry."""

    def __init__(self, sizes: dict[str, int], dim: int, seed: int, device: str = "cpu") -> None:
        self.dim = dim
        self.blocks = {name: self._draw(name, size, seed, device) for name, size in sizes.items()}
        # Q_D = Q_a (x) Q_b, so a transform is two small products: 2(a+b) operations an entry, not 2D.
        a = 1 << (dim.bit_length() // 2)
        self.q_a, self.q_b = hadamard(a).to(device), hadamard(dim // a).to(device)
        rng = torch.Generator().manual_seed(seed_of("fastfood", seed, "S"))
        # S gives the rows of P the lengths of Gaussian rows; E[S^2] = 1.
        chi = torch.randn(dim, dim, generator=rng).pow(2).sum(1)
        self.s = (chi / dim).sqrt().to(device)

    def _draw(self, name: str, size: int, seed: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Signs B [K,D] int8, permutation Pi [D], Gaussians G [K,D] f16 of one parameter."""
        rng = torch.Generator().manual_seed(seed_of("fastfood", seed, name))
        shape = (-(-size // self.dim), self.dim)
        signs = torch.randint(0, 2, shape, generator=rng, dtype=torch.int8) * 2 - 1
        permutation = torch.randperm(self.dim, generator=rng)
        gaussians = torch.randn(shape, generator=rng).half()
        return signs.to(device), permutation.to(device), gaussians.to(device)

    def transform(self, x: Float[Tensor, "*K D"]) -> Float[Tensor, "*K D"]:
        """Q x along the last axis."""
        tiles = x.unflatten(-1, (len(self.q_a), len(self.q_b)))
        return (self.q_a @ (tiles @ self.q_b)).flatten(-2)

    def zeros(self) -> Float[Tensor, "D"]:
        """An empty sum, to which parameters are added."""
        return torch.zeros(self.dim, device=self.s.device)

    def add(self, total: Float[Tensor, "D"], name: str, gradient: Tensor) -> None:
        """total += sum_k G_k Pi Q B_k g_k of one parameter, in float32, in slices of bounded memory."""
        signs, permutation, gaussians = self.blocks[name]
        flat = gradient.detach().reshape(-1)
        for start in range(0, len(signs), 4096):
            rows = slice(start, start + 4096)
            part = flat[start * self.dim : (start + 4096) * self.dim].float()
            part = torch.nn.functional.pad(part, (0, signs[rows].numel() - len(part)))
            mixed = self.transform(part.view(-1, self.dim) * signs[rows])[:, permutation]
            total += (mixed * gaussians[rows]).sum(0)

    def close(self, total: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
        """S Q total / D: the sketch of everything that was added."""
        return self.s * self.transform(total) / self.dim
