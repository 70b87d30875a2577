"""Inner products with signs that are stored as bits, without making numbers of them."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn.functional import embedding_bag

BYTES, COLUMNS = 128, 64  # of a row and of numbers at a time: their tables stay in a processor's cache ...
ROWS = 8_192  # ... for so many rows
SIGNS = torch.tensor([[(byte >> n & 1) * 2.0 - 1.0 for n in range(7, -1, -1)] for byte in range(256)])


def sign_products(signs: UInt8[Tensor, "N F_8"], numbers: Float[Tensor, "F Q"]) -> Float32[Tensor, "N Q"]:
    """`signs` as +1 and -1 (eight in a byte, F = 8 F_8) times columns of numbers.

    A byte's eight products have 256 sums, which are looked up (the method of four Russians): an addition
    instead of eight, on any processor. A row's are added in the order of its bytes: the same in any blocks
    and by any number of threads.
    """
    result = torch.zeros(len(signs), numbers.shape[1])
    at = torch.empty(min(ROWS, len(signs)), min(BYTES, signs.shape[1]), dtype=torch.int32)  # in the table
    for columns, out in zip(numbers.float().split(COLUMNS, 1), result.split(COLUMNS, 1), strict=True):
        for some, eights in zip(signs.split(BYTES, 1), columns.split(8 * BYTES), strict=True):
            table = (SIGNS @ eights.unflatten(0, (-1, 8))).flatten(0, 1)  # 256 sums of each byte
            first = torch.arange(0, len(table), 256, dtype=torch.int32)
            for block, sums in zip(some.split(ROWS), out.split(ROWS), strict=True):
                places = torch.add(block, first, out=at[: len(block), : len(first)])
                sums += embedding_bag(places, table, mode="sum")
    return result


def mean_signs(signs: UInt8[Tensor, "N F_8"], rows: Int64[Tensor, "M"]) -> Float32[Tensor, "F"]:
    """The mean over these rows of each of the F = 8 F_8 columns of +1 and -1."""
    ones = np.zeros(8 * signs.shape[1], np.int64)
    for some in rows.split(255):  # as many as a byte can count
        ones += np.unpackbits(signs[some].numpy(), axis=1).sum(0, dtype=np.uint8)
    return torch.from_numpy(2 * ones / len(rows) - 1).float()
