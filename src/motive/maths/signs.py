"""Inner products with signs that are stored as bits, without making numbers of them."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

BLOCK = 1 << 22  # bytes at a time
DIGIT = 127  # a number is two digits of one byte: its share of the largest to one part in 32,258
WIDEST = 1 << 17  # bytes a row: what 32 bits can sum


def sign_products(signs: UInt8[Tensor, "N F_8"], numbers: Float[Tensor, "F Q"]) -> Float32[Tensor, "N Q"]:
    """`signs` as +1 and -1 (eight in a byte, F = 8 F_8) times columns of numbers.

    Bytes are multiplied fastest, and what is masked out of a byte needs no unpacking: with the bit of value
    2^n alone, it is 0 or 2^n. The sums are of whole numbers and therefore exact: the same in any blocks and
    by any number of threads.
    """
    (N, width), Q = signs.shape, numbers.shape[1]
    if width > WIDEST:
        parts = zip(signs.split(WIDEST, 1), numbers.split(8 * WIDEST), strict=True)
        return torch.stack([sign_products(*part) for part in parts]).sum(0)
    largest = numbers.abs().amax(0).clamp_min(1e-30)
    scaled = numbers / largest * DIGIT
    first = scaled.round()
    second = ((scaled - first) * 2 * DIGIT).round()
    digits = torch.cat([first, second], 1).to(torch.int8)
    of_bit = digits.unflatten(0, (width, 8)).transpose(0, 1).contiguous()  # the highest bit first
    total, rows = digits.sum(0, dtype=torch.int32), max(1, BLOCK // width)
    result, masked = torch.empty(N, Q), signs.new_empty(min(rows, N), width)
    for block, out in zip(signs.split(rows), result.split(rows), strict=True):
        ones = torch.zeros(len(block), 2 * Q, dtype=torch.int32)
        for n, part in zip(range(7, -1, -1), of_bit, strict=True):
            bits = torch.bitwise_and(block, 1 << n, out=masked[: len(block)]).view(torch.int8)
            products = torch.ops.aten._int_mm(bits, part) >> n
            ones += -products if n == 7 else products  # the highest bit is the sign of an int8
        sums = 2 * ones - total
        torch.mul(sums[:, :Q] + sums[:, Q:] / (2 * DIGIT), largest / DIGIT, out=out)
    return result


def mean_signs(signs: UInt8[Tensor, "N F_8"], rows: Int64[Tensor, "M"]) -> Float32[Tensor, "F"]:
    """The mean over these rows of each of the F = 8 F_8 columns of +1 and -1."""
    ones = np.zeros(8 * signs.shape[1], np.int64)
    for some in rows.split(255):  # as many as a byte can count
        ones += np.unpackbits(signs[some].numpy(), axis=1).sum(0, dtype=np.uint8)
    return torch.from_numpy(2 * ones / len(rows) - 1).float()
