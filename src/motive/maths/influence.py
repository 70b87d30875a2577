"""Influence of pool clips on query clips: the cosine of their sketches, as they are or after a change of
measure that the pool itself gives."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped, UInt8
from torch import Tensor

from motive.maths.packing import unit, unpack
from motive.maths.signs import mean_signs, sign_products

BLOCK = 1 << 21  # numbers of pool sketches at a time: as floats they stay in a processor's cache
SAMPLE = 65_536  # pool clips, evenly spread, that mean and second moment are taken of ...
AXES = 4_096  # ... or so many, where a sketch has more numbers than this: eigenvectors cost their cube

Method = Literal["cosine", "centred", "preconditioned"]


class Measure(NamedTuple):
    """A change of stored sketches after which their cosine is taken: less the mean, then `turned`.

    The mean of a pool of signs is not that of its sketches; what is in full numbers is centred by the latter.
    """

    of_stored: Float[Tensor, "K D"]
    of_numbers: Float[Tensor, "K D"]
    turned: Callable[[Float[Tensor, "*N K D"]], Float[Tensor, "*N K D"]] | None = None

    def __call__(self, stored: Shaped[Tensor, "*N K D_stored"]) -> Float[Tensor, "*N K D"]:
        x = unpack(stored) - (self.of_stored if stored.dtype == torch.uint8 else self.of_numbers)
        return self.turned(x) if self.turned else x


def influence(
    pool: Shaped[Tensor, "N K D_stored"],
    queries: Shaped[Tensor, "Q K D_query"],
    ok: Bool[Tensor, "N"],
    measured: Measure | None = None,
) -> Float32[Tensor, "N Q"]:
    """Mean over the noise levels of the cosine, block by block; a row that is not ok is zero."""

    def measure_of(stored: Tensor) -> Tensor:
        return unit(measured(stored)) if measured else unpack(stored)

    # The paper's influence: the inner product of unit sketches, here the mean of that at each level.
    q = measure_of(queries)  # [Q,K,D]
    if pool.dtype == torch.uint8 and not (measured and measured.turned):
        result = _of_signs(pool, q, measured.of_stored if measured else None)
    else:
        result = _of_numbers(pool, q, measure_of)
    # Set, not multiplied by 0: 0 * NaN is NaN, and one bad clip must not spoil the others.
    result[~ok] = 0.0
    return result


def _of_numbers(
    pool: Shaped[Tensor, "N K D_stored"], q: Float[Tensor, "Q K D"], measure_of: Callable[[Tensor], Tensor]
) -> Float32[Tensor, "N Q"]:
    columns = q.flatten(1).T  # [K D,Q]
    rows = max(1, BLOCK // len(columns))
    result = torch.empty(len(pool), len(q))
    for block, out in zip(pool.split(rows), result.split(rows), strict=True):
        torch.mm(measure_of(block).flatten(1), columns, out=out)
    return result


def _of_signs(
    pool: UInt8[Tensor, "N K D_8"], q: Float[Tensor, "Q K D"], mean: Float[Tensor, "K D"] | None
) -> Float32[Tensor, "N Q"]:
    """The same by products with signs alone, which become numbers nowhere."""
    Q, K, D = q.shape
    if mean is None:
        return sign_products(pool.flatten(1), q.flatten(1).T).div_((K * D) ** 0.5)
    result = torch.zeros(len(pool), Q)
    for k in range(K):
        result += _of_centred_signs(pool[:, k], q[:, k], mean[k], K)
    return result


def _of_centred_signs(
    signs: UInt8[Tensor, "N D_8"], q: Float[Tensor, "Q D"], mean: Float[Tensor, "D"], K: int
) -> Float32[Tensor, "N Q"]:
    """One of K noise levels: x q / (sqrt(K) |x|) with x = s - mean, |s|^2 = 1 / K.

    x q = s q - mean q, and |x|^2 = |s|^2 - 2 x mean - |mean|^2.
    """
    columns = torch.cat([q, mean[None]]).T  # [D,Q+1]
    products = sign_products(signs, columns).div_((K * len(mean)) ** 0.5)  # s q, and s mean
    products -= mean @ columns  # x q, and x mean
    squared = 1 / K - 2 * products[:, len(q) :] - mean.square().sum()
    squared = squared.clamp_min(1e-6)  # of a clip that is the mean, rounding alone is left
    return products[:, : len(q)] / (K * squared).sqrt()


def measure(
    pool: Shaped[Tensor, "N K D_stored"], ok: Bool[Tensor, "N"], method: Method, damping: float = 1.0
) -> Measure | None:
    """The change of stored sketches after which their cosine is taken.

    cosine: none (the paper). centred: the pool's mean is subtracted, so that what all clips teach does not
    count. preconditioned: then (F + damping * mean eigenvalue)^-1/2 on both sides, F the pool's second
    moment at each noise level: directions in which all clips push count less (a Fisher matrix of sketches).
    """
    if method == "cosine":
        return None
    rows = ok.nonzero()[:, 0]
    most = SAMPLE if method == "centred" or unpack(pool[:1]).shape[-1] <= AXES else AXES
    rows = rows[:: max(1, -(-len(rows) // most))]
    centred = _centring(pool, rows)
    if method == "centred":
        return centred
    return centred._replace(turned=_whitening(unpack(pool[rows]) - centred.of_stored, damping))


def _centring(pool: Shaped[Tensor, "N K D_stored"], rows: Int64[Tensor, "M"]) -> Measure:
    """By the mean of these rows."""
    K, D = unpack(pool[:1]).shape[1:]
    if pool.dtype == torch.uint8:
        mean = mean_signs(pool.flatten(1), rows).view(K, D) / (K * D) ** 0.5
        return Measure(mean, _before_signs(mean))
    blocks = rows.split(max(1, BLOCK // (K * D)))
    mean = torch.stack([unpack(pool[block]).sum(0) for block in blocks]).sum(0) / len(rows)
    return Measure(mean, mean)


def _before_signs(mean: Float[Tensor, "K D"]) -> Float[Tensor, "K D"]:
    """The mean of unit sketches of whose signs this is the mean.

    A rotated sketch has Gaussian numbers: of mean m and std s their signs are erf(m / (s sqrt 2)) on
    average, and m^2 + s^2 are 1 / (K D).
    """
    K, D = mean.shape
    ratio = 2**0.5 * torch.erfinv((mean * (K * D) ** 0.5).clamp(-0.999, 0.999))  # m / s; no number is certain
    return ratio / ((1 + ratio.square().mean(-1, keepdim=True)) * K * D) ** 0.5


def _whitening(
    x: Float[Tensor, "N K D"], damping: float
) -> Callable[[Float[Tensor, "*N K D"]], Float[Tensor, "*N K D"]]:
    """(F + damping * mean eigenvalue)^-1/2, F the second moment of `x` at each noise level."""
    values, axes = _principal(x.transpose(0, 1))  # [K,R], [K,D,R]
    least = damping * values.sum(-1, keepdim=True) / x.shape[-1] + 1e-12  # [K,1]
    # (F + least)^-1/2 is least^-1/2 where F has no axis: it may have fewer than there are numbers.
    rest = least.rsqrt() if axes.shape[-1] < axes.shape[-2] else torch.zeros_like(least)
    gains = (values + least).rsqrt() - rest  # [K,R]

    def turned(x: Tensor) -> Tensor:
        along = torch.einsum("...kd,kdr->...kr", x, axes) * gains
        return x * rest + torch.einsum("...kr,kdr->...kd", along, axes)

    return turned


def _principal(x: Float[Tensor, "K N D"]) -> tuple[Float[Tensor, "K R"], Float[Tensor, "K D R"]]:
    """Eigenvalues and unit axes of each second moment, R = min(N, D): by the smaller of its two matrices."""
    _, N, D = x.shape
    moment = x @ x.mT if N < D else x.mT @ x
    values, vectors = torch.linalg.eigh(moment.double() / N)
    axes = vectors.float()
    if N < D:
        axes = torch.nn.functional.normalize(x.mT @ axes, dim=1)
    return values.clamp_min(0).float(), axes


def segment_influence(
    segments: Float[Tensor, "N S K D"],
    queries: Shaped[Tensor, "Q K D_query"],
    measured: Measure | None,
) -> Float32[Tensor, "N S"]:
    """What each segment adds to its clip's mean influence on the queries; over the segments it adds up to it.

    `segments` add up to the clip's sketch (of which they are shares, and therefore not of unit norm), of full
    numbers as the pool's are: signs don't add up.
    """
    change = measured or unpack
    wanted = unit(change(queries)).mean(0)  # [K,D]
    nothing = change(torch.zeros_like(wanted))
    shares = change(segments.float()) - nothing + nothing / segments.shape[1]  # [N,S,K,D]
    length = shares.sum(1).norm(dim=-1).clamp_min(1e-30) * wanted.shape[0] ** 0.5  # [N,K]
    return torch.einsum("nskd,nk,kd->ns", shares, 1 / length, wanted)


class Extreme(NamedTuple):
    """One pool clip among the best or the worst of a motion."""

    motion: str
    row: int
    rank: int  # 0 best, among the ok clips
    influence: float  # mean over the motion's queries


def extremes(
    influence: Float32[np.ndarray, "N Q"], ok: Bool[np.ndarray, "N"], motions: list[str], count: int
) -> Iterator[Extreme]:
    """Yield the `count` best and `count` worst clips of each motion, by mean influence, in rank order."""
    rows = np.flatnonzero(ok)
    for motion in sorted(set(motions)):
        columns = [q for q, other in enumerate(motions) if other == motion]
        mean = influence[:, columns].mean(axis=1, dtype=np.float64)
        order = rows[np.argsort(-mean[rows], kind="stable")]
        ranks = range(len(order))
        for rank in sorted({*ranks[:count], *ranks[-count:]}):
            yield Extreme(motion, int(order[rank]), rank, float(mean[order[rank]]))
