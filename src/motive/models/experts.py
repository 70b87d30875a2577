"""Models of two transformers, one for much noise and one for little: Wan 2.2 A14B."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NAMES = ("transformer", "transformer_2")  # as diffusers calls their folders
NUM_TRAIN_TIMESTEPS = 1000


class Experts(nn.Module):
    """Both transformers as one: each clip of a batch goes to the one that its noise level asks for.

    An expert that no clip went to gets no gradient. Parameters are named after both folders.
    """

    def __init__(self, transformer: nn.Module, transformer_2: nn.Module, boundary_ratio: float) -> None:
        super().__init__()
        self.transformer = transformer
        self.transformer_2 = transformer_2
        self.boundary = boundary_ratio * NUM_TRAIN_TIMESTEPS

    def forward(
        self,
        noised: Float[Tensor, "B C T h w"],
        timestep: Float[Tensor, "B *N"],
        text: Float[Tensor, "B S E"],
        return_dict: bool = False,
    ) -> tuple[Float[Tensor, "B X T h w"]]:
        """As one transformer is called; timestep is 1000*sigma. There may be more channels than latents."""
        # Of tokens with timesteps of their own the noisiest counts: a given first frame has 0.
        level = timestep if timestep.ndim == 1 else timestep.amax(1)
        noisy = level >= self.boundary
        predicted = []
        order = []
        for expert, of_expert in ((self.transformer, noisy), (self.transformer_2, ~noisy)):
            rows = of_expert.nonzero()[:, 0]
            if len(rows):
                predicted.append(expert(noised[rows], timestep[rows], text[rows], return_dict=False)[0])
                order.append(rows)
        # It is of a lower precision under autocast.
        velocity = torch.cat(predicted).type_as(noised)
        return (velocity[torch.cat(order).argsort()],)

    def enable_gradient_checkpointing(self) -> None:
        """Less memory, a third more time."""
        for expert in parts(self).values():
            expert.enable_gradient_checkpointing()


def parts(transformer: nn.Module) -> dict[str, Any]:
    """The diffusers models it is made of, by the names of their folders."""
    return dict(transformer.named_children()) if isinstance(transformer, Experts) else {NAMES[0]: transformer}
