"""Image to video: what a backbone is given of a clip's first frame.

There are two kinds. *clean* (Wan2.2 TI2V): the first latent frame has no noise, and its tokens have the
timestep 0. *channels* (Wan I2V): the encoded frame stands beside the noised latents, as more channels.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Condition = Literal["text", "first_frame"]
Kind = Literal["clean", "channels"]


class FirstFrame(NamedTuple):
    """The first frames of a batch of clips; without `channels` they are in the noised latents, clean."""

    channels: Float[Tensor, "B X T h w"] | None = None
    image: Float[Tensor, "B P E"] | None = None  # embedded, for backbones that attend to it (Wan2.1 I2V)

    @property
    def clean(self) -> bool:
        """Whether the first latent frame is given, and not predicted."""
        return self.channels is None

    def of(self, rows: list[int]) -> "FirstFrame":
        """Those of some of the clips, in this order."""
        return FirstFrame(*(None if tensor is None else tensor[rows] for tensor in self))

    def to(self, device: str) -> "FirstFrame":
        """On another device."""
        return FirstFrame(*(None if tensor is None else tensor.to(device) for tensor in self))


def is_clean(first_frame: FirstFrame | None) -> bool:
    """Whether there is one, and it is not predicted."""
    return first_frame is not None and first_frame.clean


def first_frame_of(clips: list[dict[str, Any]], condition: Condition, device: str) -> FirstFrame | None:
    """What a backbone is given of these clips, as `per_clip.encode_clip` has kept it; None: text alone."""
    if condition == "text":
        return None
    return FirstFrame(*(_batch([clip.get(name) for clip in clips], device) for name in FirstFrame._fields))


def _batch(tensors: list[Tensor | None], device: str) -> Tensor | None:
    there = [tensor.float() for tensor in tensors if tensor is not None]
    if not there:
        return None
    return torch.stack(there).to(device)
