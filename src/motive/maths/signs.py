"""Inner products with signs that are stored as bits, without making numbers of them."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn.functional import embedding_bag

BYTES = 128  # of a row at a time, and ...
COLUMNS = 64  # ... of numbers: their tables stay in a processor's cache ...
ROWS = 8_192  # ... for so many rows
SIGNS = torch.tensor([[(byte >> n & 1) * 2.0 - 1.0 for n in range(7, -1, -1)] for byte in range(256)])


def sign_products(signs: UInt8[Tensor, "N F_8"], numbers: Float[Tensor, "F Q"]) -> Float32[Tensor, "N Q"]:
    """`signs` as +1 and -1 (eight in a byte, F = 8 F_8) times columns of numbers.

    A byte's eight products have 256 sums, which are looked up (the method of four Russians): an addition
    instead of eight, on any processor. A row's are added in the order of its bytes: the same in any blocks
    and by any number of threads.
    """
    result = torch.zeros(len(signs), numbers.shape[1])
    for columns, sums in zip(numbers.float().split(COLUMNS, 1), result.split(COLUMNS, 1), strict=True):
        for some_bytes, eights in zip(signs.split(BYTES, 1), columns.split(8 * BYTES), strict=True):
            _add_products(sums, some_bytes, eights)
    return result


def _add_products(
    sums: Float32[Tensor, "N q"], signs: UInt8[Tensor, "N f_8"], numbers: Float32[Tensor, "f q"]
) -> None:
    """Add the products to `sums`; `f` and `q` as small as the tables want them."""
    table = (SIGNS @ numbers.unflatten(0, (-1, 8))).flatten(0, 1)  # [256 f_8,q]: the sums of each byte
    first = torch.arange(0, len(table), 256, dtype=torch.int32)  # [f_8], of a byte's sums
    places = torch.empty(min(ROWS, len(signs)), len(first), dtype=torch.int32)  # written over by each block
    for block, out in zip(signs.split(ROWS), sums.split(ROWS), strict=True):
        torch.add(block, first, out=places[: len(block)])
        out += embedding_bag(places[: len(block)], table, mode="sum")


def mean_signs(signs: UInt8[Tensor, "N F_8"], rows: Int64[Tensor, "M"]) -> Float32[Tensor, "F"]:
    """The mean over these rows of each of the F = 8 F_8 columns of +1 and -1."""
    ones = np.zeros(8 * signs.shape[1], np.int64)
    for some in rows.split(255):  # as many as a byte can count
        ones += np.unpackbits(signs[some].numpy(), axis=1).sum(0, dtype=np.uint8)
    return torch.from_numpy(2 * ones / len(rows) - 1).float()
