"""Sketches in few bits. Only direction counts, so no scale is kept; the dtype says how to read them."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import normalize

Storage = Literal["float32", "float16", "int8", "bit"]
BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "bit": 1 / 8}  # a number


def unit(sketches: Float[Tensor, "*N K D"]) -> Float[Tensor, "*N K D"]:
    """Each of the K rows of a clip as long as the others, the clip of unit norm: the inner product of two
    clips is the mean of the K cosines."""
    return normalize(sketches, dim=-1) / sketches.shape[-2] ** 0.5


def pack(sketch: Float[Tensor, "*N K D"], storage: Storage) -> Shaped[Tensor, "*N K D_stored"]:
    """As it is stored: float32, float16, int8 (of the row's largest), or signs, eight in a byte (uint8)."""
    match storage:
        case "float32" | "float16":
            return unit(sketch).to(torch.float32 if storage == "float32" else torch.float16)
        case "int8":
            largest = sketch.abs().amax(-1, keepdim=True).clamp_min(1e-30)
            return (sketch / largest * 127).round().to(torch.int8)
        case "bit":
            return torch.from_numpy(np.packbits((sketch >= 0).numpy(), axis=-1))


def unpack(stored: Shaped[Tensor, "*N K D_stored"]) -> Float[Tensor, "*N K D"]:
    """Sketches of unit norm in float32, of whatever was stored."""
    if stored.dtype == torch.uint8:
        bits = torch.from_numpy(np.unpackbits(stored.numpy(), axis=-1))
        return unit(bits.float() * 2 - 1)
    return stored.float() if stored.is_floating_point() else unit(stored.float())
