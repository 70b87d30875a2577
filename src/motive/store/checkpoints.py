"""Training states on disk: a module and its optimizers' moments, so that a killed run goes on unchanged."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from motive.store.files import write_tensors

MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # of AdamW and Muon


def write_checkpoint(path: Path, step: int, model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    """Write the trainable parameters and their optimizers' states, whole or not at all."""
    tensors = {"step": torch.tensor(step)}
    for name, p in _trained(model):
        state = _owner(p, optimizers).state[p]
        tensors[f"model.{name}"] = p.detach().contiguous()
        tensors |= {f"optimizer.{name}.{key}": state[key].contiguous() for key in MOMENTS if key in state}
    for left in path.parent.glob(f".{path.name}.*"):  # by a killed run: a checkpoint may have gigabytes
        left.unlink(missing_ok=True)
    write_tensors(path, tensors)


def read_checkpoint(path: Path, model: nn.Module, *optimizers: torch.optim.Optimizer) -> int:
    """Load what `write_checkpoint` wrote and return its step; 0 if there is none."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    for name, p in _trained(model):
        p.data.copy_(tensors[f"model.{name}"])
        state = {key: tensors.get(f"optimizer.{name}.{key}") for key in MOMENTS}
        _owner(p, optimizers).state[p] = {
            key: value.to(p.device) if value.ndim else value  # AdamW counts its steps on the CPU
            for key, value in state.items()
            if value is not None
        }
    return int(tensors["step"])


def _owner(p: nn.Parameter, optimizers: tuple[torch.optim.Optimizer, ...]) -> torch.optim.Optimizer:
    """The optimizer that moves a parameter."""
    return next(o for o in optimizers for group in o.param_groups if any(p is q for q in group["params"]))


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
