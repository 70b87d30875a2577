"""What `--params`, `--device` and `--dtype` mean, for every command: honoured, or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from motive.params import Params

Split = Annotated[str, typer.Argument(metavar="SPLIT", help="pool, queries, or another of clips.source.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:N, for once.", show_default="as in params.yaml"),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="float32, bfloat16 or float16, for once.",
        show_default="model.dtype of params.yaml",
    ),
]

# The keys of params.yaml that --device and --dtype stand in for; a command that is not here runs no model.
MODEL = "model.device"
TRACKER = "optical_flow.device"
DEVICE_KEYS = {
    "optical_flow": [TRACKER],
    "latents": [MODEL],
    "sketches": [MODEL],
    "finetuning": [MODEL],
    "evaluation": [MODEL],
    "append": [MODEL, TRACKER],
    "query": [MODEL, TRACKER],
    "validate": [MODEL],
}
DTYPE_KEYS = {command: ["model.dtype"] for command in DEVICE_KEYS if command != "optical_flow"}


@dataclass
class Settings:
    """The options between `motive` and the command."""

    params: Path
    device: str | None = None
    dtype: str | None = None


def load(context: typer.Context, device: str | None = None, dtype: str | None = None) -> "Params":
    """The parameters, with what `--device` and `--dtype` say, before or after the command."""
    from motive.params import load_params  # after a command's first line: it imports for a second

    command = context.info_name or ""
    settings: Settings = context.obj
    device = device or settings.device
    dtype = dtype or settings.dtype
    changes: dict[str, str] = {}
    if device:
        changes |= dict.fromkeys(_keys(command, f"--device {device}", DEVICE_KEYS), device)
    if dtype:
        changes |= dict.fromkeys(_keys(command, f"--dtype {dtype}", DTYPE_KEYS), dtype)
    params = load_params(settings.params, changes)
    _refuse_unused_device(command, params, device)
    return params


def _keys(command: str, option: str, keys: dict[str, list[str]]) -> list[str]:
    if command not in keys:
        raise ValueError(f"{option}: `motive {command}` has no use for it: leave it out")
    return keys[command]


def _refuse_unused_device(command: str, params: "Params", device: str | None) -> None:
    if device in (None, "cpu"):
        return
    if command == "optical_flow" and params.optical_flow.tracker == "dis":
        raise ValueError(f"--device {device}: optical_flow.tracker dis runs on the CPU: leave it out")
    if command == "finetuning" and device != "cuda":
        index = str(device).partition(":")[2]
        raise ValueError(
            f"--device {device}: fine-tuning takes all GPUs that it sees: "
            f"CUDA_VISIBLE_DEVICES={index} motive finetuning --device cuda"
        )
