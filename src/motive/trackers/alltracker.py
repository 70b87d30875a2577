"""AllTracker (Harley et al. 2025): every pixel of frame 0 followed through a clip by a network.

Its code is on no package index: `repository` is a clone of it, which the user trusts.
"""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from motive.trackers.networks import filled, find_weights, fit, read_weights, restore, restore_flow
from motive.trackers.pairs import FlowStep

ITERATIONS = 4  # refinements a window, as its demo
CODE = ("nets/alltracker.py", "nets/blocks.py", "utils/misc.py")  # all that the network is made of
_REPOSITORY = "optical_flow.repository"

Frame = UInt8[np.ndarray, "H W 3"]


class AllTracker:
    """AllTracker's network, full or tiny, whichever the weights are of.

    Raises:
        ValueError: its code or what that needs does not load, or the weights are something else.
    """

    def __init__(self, repository: str, weights: str, device: str) -> None:
        tensors = read_weights(find_weights(weights))
        times = tensors.get("time_emb", torch.empty(0))  # [1, window, dim]
        window = times.shape[1] if times.ndim == 3 else 16
        tiny = any(key.startswith("fnet.") for key in tensors)
        options = {"use_basicencoder": True, "no_split": True} if tiny else {"init_weights": False}
        network = _network_class(repository)(window, **options)  # init_weights would fetch an image model's
        self.network: Any = filled(network, tensors, f"AllTracker{' (tiny)' * tiny}", weights).to(device)

    def __call__(
        self, before: Frame, after: Frame
    ) -> tuple[Float32[np.ndarray, "2 H W"], Float32[np.ndarray, "H W"]]:
        """(dx, dy) in pixels, lying where things were in `before`, and visibility times confidence."""
        return self._run([before, after])[0]

    def follow(self, frames: Iterable[Frame]) -> Iterator[FlowStep]:
        """Each frame from frame 0, in one go: the clip and all its vectors are in memory."""
        clip = list(frames)
        size = clip[0].shape[:2]
        yield FlowStep(np.zeros((2, *size), np.float32), np.ones(size, np.float32))
        yield from self._run(clip)

    @torch.inference_mode()
    def _run(self, clip: list[Frame]) -> list[FlowStep]:
        """All frames but the first, from the first."""
        size = clip[0].shape[:2]
        pixels = fit(np.stack(clip))
        flow_and_sure = self.network.forward_sliding(pixels[None], iters=ITERATIONS)[:2]
        # of two frames it returns the second alone, of more all of them
        flow, sure = (maps.reshape(-1, 2, *pixels.shape[2:])[1 - len(clip) :] for maps in flow_and_sure)
        confidence = restore(sure.prod(1, keepdim=True), size)[:, 0]
        pairs = zip(restore_flow(flow, size).numpy(), confidence.numpy(), strict=True)
        return [FlowStep(*pair) for pair in pairs]


def code(repository: str) -> list[Path]:
    """The files of a clone that the network is made of.

    Raises:
        ValueError: one is missing.
    """
    files = [Path(repository).resolve() / name for name in CODE]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{_REPOSITORY}: {file} is missing: clone github.com/aharley/alltracker there")
    return files


def _network_class(repository: str) -> Any:
    """Its `Net`, on any device: the code calls .cuda() on all frames, except in training."""
    net = _modules(repository)[0].Net

    class Anywhere(net):
        def get_fmaps(self, images: Tensor, batch: int, count: int, writer: None, training: bool) -> Tensor:
            return super().get_fmaps(images.to(self.time_emb.device), batch, count, writer, True)

    return Anywhere


def _modules(repository: str) -> list[Any]:
    """The clone's modules; they import each other by names that others may have taken."""
    files = code(repository)
    root = str(files[0].parents[1])
    sys.path.insert(0, root)
    try:
        modules: list[Any] = [import_module(name[:-3].replace("/", ".")) for name in CODE]
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision is built for another torch
        raise ValueError(
            f"{_REPOSITORY}: {root} does not load: {error}; it needs motive[trackers], with a torchvision "
            "built for this torch, and that no other modules are named nets or utils"
        ) from error
    finally:
        sys.path.remove(root)
    for module, file in zip(modules, files, strict=True):
        if Path(module.__file__).resolve() != file:
            raise ValueError(
                f"{_REPOSITORY}: {module.__file__} has the name of {file}, and was imported first"
            )
    return modules
