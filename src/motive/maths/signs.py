"""Inner products with signs that are stored as bits, without making numbers of them."""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

BITS = 1 << 22  # signs at a time, a byte each, so that they stay in a processor's cache
DIGIT = 127  # a number is two digits of one byte: its share of the largest to one part in 32,258


def sign_products(signs: UInt8[Tensor, "N F_8"], numbers: Float[Tensor, "F Q"]) -> Float32[Tensor, "N Q"]:
    """`signs` as +1 and -1 (eight in a byte, F = 8 F_8) times columns of numbers.

    The sums are of whole numbers and therefore exact: the same in any blocks and by any number of threads.
    """
    largest = numbers.abs().amax(0).clamp_min(1e-30)
    scaled = numbers / largest * DIGIT
    first = scaled.round()
    second = ((scaled - first) * 2 * DIGIT).round()
    digits = torch.cat([first, second], 1).to(torch.int8)
    total, (N, Q) = digits.sum(0, dtype=torch.int32), (len(signs), numbers.shape[1])
    result, rows = torch.empty(N, Q), max(1, BITS // len(numbers))
    for block, out in zip(signs.split(rows), result.split(rows), strict=True):
        bits = torch.from_numpy(np.unpackbits(block.numpy(), axis=1).view(np.int8))
        sums = 2 * torch.ops.aten._int_mm(bits, digits) - total  # bytes are multiplied fastest
        torch.mul(sums[:, :Q] + sums[:, Q:] / (2 * DIGIT), largest / DIGIT, out=out)
    return result
