"""Base and tuned transformer: what decides each, and how it is loaded.

Fine-tuning leaves all of the transformer in a folder, or a low-rank adapter that goes onto the base.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from motive.models.backbones import Offload, load_pipeline, load_transformer
from motive.models.first_frame import Condition
from motive.models.folder import fingerprint, foreign_origin
from motive.models.lora import FILES, load_lora
from motive.store.hashes import file_digest, text_digest

WHOLE = "transformer"
LORA = FILES[WHOLE]


@dataclass(frozen=True)
class Model:
    """One of the two: `tuned` is fine-tuning's folder, empty for the base; `digest` is of its weights."""

    name: str
    path: str
    dtype: str
    device: str
    tuned: str
    digest: str


def base_model(path: str, dtype: str, device: str) -> Model:
    """The model as it came."""
    return Model("base", path, dtype, device, "", fingerprint(path, WHOLE))


def tuned_model(path: str, dtype: str, device: str, tuned: str) -> Model:
    """The model with the transformer in the folder `tuned`.

    Raises:
        ValueError: the folder holds none.
    """
    if not _is_whole(tuned) and not (Path(tuned) / LORA).is_file():
        raise ValueError(
            f"{tuned} holds neither {WHOLE}/ nor {LORA}: fine-tuning has not finished; run `dvc repro`"
        )
    return Model("tuned", path, dtype, device, tuned, _digest(path, tuned))


def _is_whole(tuned: str) -> bool:
    return (Path(tuned) / WHOLE).is_dir()


def _digest(base: str, tuned: str) -> str:
    whole = _is_whole(tuned)
    files = sorted(Path(tuned).glob(f"{WHOLE}*/*" if whole else "pytorch_lora_weights*.safetensors"))
    lines = [f"{path.name} {file_digest(path)}\n" for path in files]
    start = foreign_origin(base) if whole else fingerprint(base, WHOLE)
    return text_digest("".join([start, *lines]))


@lru_cache(maxsize=1)  # one at a time in a worker: the base model makes room for the tuned one
def frozen_transformer(model: Model) -> nn.Module:
    """The transformer, without gradients."""
    whole = model.tuned if model.tuned and _is_whole(model.tuned) else ""
    transformer = load_transformer(model.path, model.dtype, model.device, whole)
    if model.tuned and not whole:
        load_lora(transformer, model.tuned)
    return transformer.to(model.device).eval().requires_grad_(False)


@lru_cache(maxsize=1)
def sampler(model: Model, offload: Offload, condition: Condition) -> Any:
    """The whole pipeline with the model's transformer; what waits beside the device is on the CPU from the
    start."""
    waiting = model if offload == "none" else replace(model, device="cpu")
    transformer = frozen_transformer(waiting)
    return load_pipeline(model.path, model.dtype, model.device, transformer, offload, condition)
