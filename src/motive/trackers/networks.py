"""What the trackers that are neural networks share: weights from a file, and frames of a size they take."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from motive.store.hashes import bytes_digest, hash_file

LEAST = 128  # pixels of a side: below it RAFT's and AllTracker's pyramids run out of cells
MULTIPLE = 8  # both see one cell in 8x8 pixels
_WEIGHTS = "optical_flow.weights"


# ---- weights


def find_weights(weights: str) -> Path:
    """A local file, or the local copy of owner/name/file on the hub, fetched if it must be.

    Raises:
        ValueError: it is neither.
    """
    if Path(weights).is_file():
        return Path(weights)
    owner, _, name = weights.partition("/")
    repository, _, file = name.partition("/")
    if not (owner.strip(".") and file):
        raise ValueError(f"{_WEIGHTS}: {weights!r} is no file, and not owner/name/file on the hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"{_WEIGHTS}: {weights} is no file, and none of that name was found on the hub: {error}"
        ) from error


def digest(*files: Path) -> str:
    """A hash of what is in these files."""
    return bytes_digest(b"".join(bytes.fromhex(hash_file(path)) for path in files))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, from safetensors or a file of torch's; its other objects are never made.

    Raises:
        ValueError: the file is something else.
    """
    wrong = f"{_WEIGHTS}: {path} is no state_dict of plain tensors, and nothing else is read: save that alone"
    try:
        if path.suffix == ".safetensors":
            tensors: Any = load_file(path)
        elif is_zipfile(path):  # what torch has written since 2020
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise ValueError(wrong)
    except (SafetensorError, UnpicklingError, BadZipFile, RuntimeError, LookupError, TypeError) as error:
        raise ValueError(wrong) from error  # torch's own advice would be to run what is in the file
    if isinstance(tensors, dict):
        tensors = tensors.get("model", tensors)  # AllTracker's are inside a checkpoint
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(wrong)
    return tensors


def filled(network: nn.Module, weights: dict[str, Tensor], name: str, path: str) -> nn.Module:
    """The network with these weights, ready to use.

    Raises:
        ValueError: they are another network's.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).split("\n")[1].strip()[:200]
        raise ValueError(f"{_WEIGHTS}: {path} are not the weights of {name}: {first}") from error
    return network.eval().requires_grad_(False)


# ---- frames


def fit(frames: UInt8[np.ndarray, "F H W 3"]) -> Float32[Tensor, "F 3 h w"]:
    """Frames as a network takes them, 0 to 255: small ones enlarged, all padded to multiples of 8.

    `restore` and `restore_flow` undo it.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    height, width = size = _enlarged(frames.shape[1:3])
    if size != frames.shape[1:3]:
        pixels = interpolate(pixels, size, mode="bilinear")
    return pad(pixels, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")


def restore(maps: Float32[Tensor, "F C h w"], size: tuple[int, int]) -> Float32[Tensor, "F C H W"]:
    """Maps of what `fit` returned, at the frames' own size."""
    height, width = _enlarged(size)
    inner = maps[..., :height, :width]
    return inner if (height, width) == size else interpolate(inner, size, mode="bilinear", antialias=True)


def restore_flow(flow: Float32[Tensor, "F 2 h w"], size: tuple[int, int]) -> Float32[Tensor, "F 2 H W"]:
    """Vectors of what `fit` returned, at the frames' own size and in their pixels."""
    height, width = _enlarged(size)
    return restore(flow, size) * flow.new_tensor([size[1] / width, size[0] / height]).view(2, 1, 1)


def _enlarged(size: tuple[int, ...]) -> tuple[int, int]:
    scale = max(1, LEAST / min(size))
    return round(size[0] * scale), round(size[1] * scale)
