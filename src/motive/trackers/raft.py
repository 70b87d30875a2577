"""RAFT (Teed and Deng 2020), torchvision's: optical flow of a pair of frames by a network."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from motive.trackers.networks import filled, find_weights, fit, read_weights, restore_flow

Frame = UInt8[np.ndarray, "H W 3"]


class Raft:
    """torchvision's `raft_large` or `raft_small`, whichever the weights are of.

    Raises:
        ValueError: torchvision does not load, or the weights are something else.
    """

    def __init__(self, weights: str, device: str) -> None:
        tensors = read_weights(find_weights(weights))
        large = any(key.startswith("mask_predictor.") for key in tensors)  # small has none
        name = "raft_large" if large else "raft_small"
        network = getattr(_models(), name)()
        self.network = filled(network, tensors, f"torchvision's {name}", weights).to(device)
        self.device = device

    @torch.inference_mode()
    def __call__(
        self, before: Frame, after: Frame
    ) -> tuple[Float32[np.ndarray, "2 H W"], Float32[np.ndarray, "H W"]]:
        """(dx, dy) in pixels, lying where things were in `before`; RAFT is equally sure of all."""
        size = before.shape[:2]
        pixels = fit(np.stack([before, after])).to(self.device) / 127.5 - 1
        flow = self.network(pixels[:1], pixels[1:])[-1]  # the last of its 12 refinements
        return restore_flow(flow, size)[0].cpu().numpy(), np.ones(size, np.float32)


def _models() -> Any:
    try:
        from torchvision.models import optical_flow  # pyright: ignore[reportMissingImports]
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ValueError(
            f"optical_flow.tracker is 'raft', which needs torchvision, and it does not load: {error}; "
            "install motive[trackers], with a torchvision built for this torch"
        ) from error
    return optical_flow
