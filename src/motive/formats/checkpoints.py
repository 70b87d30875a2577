"""Training states on disk: a module and its AdamW moments as safetensors, so that a killed run goes on unchanged."""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def write_checkpoint(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the trainable parameters and their optimizer state aside and rename."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors = {f"model.{name}": p.detach() for name, p in trained.items()}
    for name, p in trained.items():
        state = optimizer.state[p]
        tensors |= {f"optimizer.{name}.{key}": state[key] for key in ("step", "exp_avg", "exp_avg_sq") if key in state}
    tensors["step"] = torch.tensor(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, aside)
    os.replace(aside, path)


def read_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load what `write_checkpoint` wrote and return its step; 0 if there is none."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            p.copy_(tensors[f"model.{name}"])
            prefix = f"optimizer.{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            optimizer.state[p] = {key: value.to(p.device) if value.ndim else value for key, value in state.items()}
    return int(tensors["step"])
