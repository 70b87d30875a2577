"""A gradient of any length to D numbers that keep its inner products.

A parameter is cut into chunks and every map here is a sum over chunks, so parameters are added one by one,
as their gradients appear. Nothing is held for each entry: signs, Gaussians and buckets are pieces of short
random tables, which begin where (seed, parameter name) says, and each chunk has a sign of its own. So the
result does not depend on order, shard, device or the other parameters.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from motive.maths.seeds import seed_of

CHUNK = 1 << 16  # entries, at most: with its pieces of the tables a chunk stays in a processor's cache
TABLE = 1 << 17  # places where a piece may begin; two tables: 2^34 pairs of them


def hadamard(n: int) -> Float[Tensor, "n n"]:
    """The Hadamard matrix of a power of two, unnormalised: Q Q^T = n I."""
    if n < 1 or n & (n - 1):
        raise ValueError(f"sketches.dim: {n} is not a power of two")
    q = torch.ones(1, 1)
    while len(q) < n:
        q = torch.cat([torch.cat([q, q], 1), torch.cat([q, -q], 1)])
    return q


class Projection(ABC):
    """A random linear map of the gradients of named parameters to D numbers."""

    def __init__(self, dim: int, seed: int, device: str = "cpu", width: int = 1) -> None:
        self.dim = dim
        self._seed = seed
        self._device = device
        # Q_D = Q_a (x) Q_b, so a transform is two small products: 2(a+b) operations an entry, not 2D.
        a = 1 << (dim.bit_length() // 2)
        self._q_a = hadamard(a).to(device)
        self._q_b = hadamard(dim // a).to(device)
        # A chunk is so many rows of this width.
        self._width = width
        self._rows = max(1, CHUNK // width)
        self._chunk = self._rows * width
        self._signs = self._table("signs", self._chunk + TABLE, signs=True)
        self._closing = self._table("closing", dim, signs=True)
        self._places: dict[str, list[list[int]]] = {}

    @abstractmethod
    def zeros(self) -> Tensor:
        """An empty sum, to which parameters are added."""

    @abstractmethod
    def close(self, total: Tensor) -> Float[Tensor, "D"]:
        """The sketch of everything that was added."""

    def add(self, total: Tensor, name: str, gradient: Tensor) -> None:
        """Add one parameter's gradient to the sum, in float32."""
        flat = gradient.detach().reshape(-1)
        chunks = flat.split(self._chunk)
        for (first, second, sign), chunk in zip(self._drawn(name, len(flat)), chunks, strict=True):
            missing = -len(chunk) % self._width
            if missing:
                chunk = pad(chunk, (0, missing))
            self._add(total, chunk, self._signs[first : first + len(chunk)], second, sign)

    @abstractmethod
    def _add(self, total: Tensor, chunk: Tensor, signs: Tensor, place: int, sign: int) -> None: ...

    def transform(self, x: Float[Tensor, "*K D"]) -> Float[Tensor, "*K D"]:
        """Q x along the last axis."""
        tiles = x.unflatten(-1, (len(self._q_a), len(self._q_b)))
        return (self._q_a @ (tiles @ self._q_b)).flatten(-2)

    def _turned(self, y: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
        """Rotated at random: all numbers become alike, so that few bits say more; inner products stay."""
        return self.transform(y * self._closing) / self.dim**0.5

    def _rng(self, *names: object) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(type(self).__name__, self._seed, *names))

    def _table(self, name: str, size: int, signs: bool = False) -> Tensor:
        drawn = torch.randn(size, generator=self._rng("table", name))
        return (drawn.sign() if signs else drawn).to(self._device)

    def _drawn(self, name: str, size: int) -> list[list[int]]:
        """Of each chunk of a parameter: where its pieces of the two tables begin, and its sign."""
        if name not in self._places:
            rng = self._rng("parameter", name)
            num_chunks = -(-size // self._chunk)
            begins = torch.randint(TABLE, (num_chunks, 2), generator=rng)
            sign = torch.randint(2, (num_chunks, 1), generator=rng) * 2 - 1
            self._places[name] = torch.cat([begins, sign], 1).tolist()
        return self._places[name]


class Fastfood(Projection):
    """The paper's P = 1/(xi sqrt(D)) S Q G Pi Q B on blocks of D entries, which are added up.

    Pi, S and the closing Q are the same for all blocks, so they wait for the end.
    """

    def __init__(self, dim: int, seed: int, device: str = "cpu") -> None:
        super().__init__(dim, seed, device, width=dim)
        self._gaussians = self._table("G", self._chunk + TABLE)
        self._permutation = torch.randperm(dim, generator=self._rng("Pi")).to(device)
        # S gives the rows of P the lengths of Gaussian rows: S^2 is like chi^2 / D, with E[S^2] = 1.
        self._s = (1 + self._table("S", dim) * (2 / dim) ** 0.5).clamp_min(0).sqrt()

    def zeros(self) -> Tensor:
        return torch.zeros(len(self._q_a), self._rows, len(self._q_b), device=self._device)

    def _add(self, total: Tensor, chunk: Tensor, signs: Tensor, place: int, sign: int) -> None:
        """total += +-G Q B g, block by block; the k-th block of a chunk is what lies at [:, k, :]."""
        a, _, b = total.shape
        mixed = (self._q_a @ (chunk * signs).view(a, -1)).view(-1, b) @ self._q_b  # Q B g
        gaussians = self._gaussians[place : place + len(chunk)].view(a, -1, b)
        total[:, : gaussians.shape[1]].addcmul_(mixed.view(gaussians.shape), gaussians, value=sign)

    def close(self, total: Tensor) -> Float[Tensor, "D"]:
        """S Q Pi of the sum; over D, since either Q is sqrt(D) times a rotation."""
        return self._s * self.transform(total.sum(1).flatten()[self._permutation]) / self.dim


class Fold(Projection):
    """Entry i is added to number i mod p with a random sign; p is the largest prime up to D.

    One multiplication an entry, read in order. A prime, since rows of weights are as wide as powers of two:
    folded by one, whole columns would fall on one number.
    """

    def __init__(self, dim: int, seed: int, device: str = "cpu") -> None:
        super().__init__(dim, seed, device, width=_prime(dim))

    def zeros(self) -> Tensor:
        return torch.zeros(self._rows, self._width, device=self._device)

    def _add(self, total: Tensor, chunk: Tensor, signs: Tensor, place: int, sign: int) -> None:
        rows = chunk.view(-1, self._width)
        total[: len(rows)].addcmul_(rows, signs.view_as(rows), value=sign)

    def close(self, total: Tensor) -> Float[Tensor, "D"]:
        return self._turned(pad(total.sum(0), (0, self.dim - self._width)))


class CountSketch(Projection):
    """Each entry is added to one random number of D with a random sign (SJLT with one nonzero a column)."""

    def __init__(self, dim: int, seed: int, device: str = "cpu") -> None:
        super().__init__(dim, seed, device)
        buckets = torch.randint(dim, (self._chunk + TABLE,), generator=self._rng("buckets"))
        self._buckets = buckets.to(device)

    def zeros(self) -> Tensor:
        return torch.zeros(self.dim, device=self._device)

    def _add(self, total: Tensor, chunk: Tensor, signs: Tensor, place: int, sign: int) -> None:
        buckets = self._buckets[place : place + len(chunk)]
        if total.is_cuda:  # its `index_add_` adds in any order, this sorts first; no GPU has run it yet
            total.index_put_((buckets,), (chunk * signs * sign).to(total.dtype), accumulate=True)
        else:
            total.index_add_(0, buckets, chunk * signs, alpha=sign)

    def close(self, total: Tensor) -> Float[Tensor, "D"]:
        return self._turned(total)


KINDS: dict[str, type[Projection]] = {"fastfood": Fastfood, "fold": Fold, "count_sketch": CountSketch}


def _prime(most: int) -> int:
    """The largest prime up to a number (1 if there is none)."""
    return next((n for n in range(most, 1, -1) if all(n % k for k in range(2, math.isqrt(n) + 1))), 1)
