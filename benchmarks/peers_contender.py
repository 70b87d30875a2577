"""One contender of benchmarks/peers.py, in a process of its own: gradients of clips, projected.

    python benchmarks/peers_contender.py WAY KIND DIM SEED MODEL CLIPS OUT

Runs in the environment of benchmarks/peers-requirements.txt, with `src` on the path. CLIPS and OUT are
safetensors; OUT has the sketches [N,D] and, in its header, processor seconds and memory.
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from motive.maths.denoising import motion_weighted_loss
from motive.maths.gradients import sketch_gradient
from motive.maths.projection import KINDS
from motive.models.backbones import load_transformer
from motive.models.experts import NUM_TRAIN_TIMESTEPS

CLIP = ("noised", "sigma", "text", "target", "W")
ROWS = 32  # gradients that the libraries project at once: their own `proj_max_batch_size`

Clips = Sequence[Tensor]  # CLIP, stacked
Run = Callable[[], Float[Tensor, "N D"]]


def loss(model: Callable, noised: Tensor, sigma: Tensor, text: Tensor, target: Tensor, W: Tensor) -> Tensor:
    """One clip's motion-weighted loss."""
    timestep = sigma[None] * NUM_TRAIN_TIMESTEPS
    v = model(noised[None], timestep, text[None], return_dict=False)[0][0]
    return motion_weighted_loss(v, target, W)


def ours(model: nn.Module, clips: Clips, kind: str, dim: int, seed: int) -> Run:
    """One backward pass a clip; each parameter's gradient is projected and dropped."""
    projection = KINDS[kind](dim, seed)
    return lambda: torch.stack(
        [sketch_gradient(loss(model, *clip), model, projection) for clip in zip(*clips, strict=True)]
    )


def trak(model: nn.Module, clips: Clips, kind: str, dim: int, seed: int, blocks: bool = True) -> Run:
    """trak's projector for the CPU: its matrix is drawn for each batch in blocks of 100 columns, or held
    whole. Of its gradients the iterative ones: on this model they are faster than the vmapped, and leaner."""
    from trak.gradient_computers import IterativeGradientComputer  # type: ignore[import-not-found]
    from trak.modelout_functions import AbstractModelOutput  # type: ignore[import-not-found]
    from trak.projectors import BasicProjector  # type: ignore[import-not-found]

    class Loss(AbstractModelOutput):
        def __init__(self) -> None: ...

        def get_output(self, model: nn.Module, weights: None, buffers: None, *batch: Tensor) -> Tensor:
            return torch.stack([loss(model, *clip) for clip in zip(*batch, strict=True)])

        def get_out_to_loss_grad(self, *args: object) -> Tensor:
            raise AssertionError("the output is the loss")

    size = num_parameters(model)
    computer = IterativeGradientComputer(model, Loss(), size, torch.float32, "cpu")
    projector = BasicProjector(size, dim, seed, kind, "cpu", block_size=100 if blocks else dim)
    project = partial(projector.project, model_id=0)
    return lambda: projected(clips, size, computer.compute_per_sample_grad, project)


def dattri(model: nn.Module, clips: Clips, kind: str, dim: int, seed: int) -> Run:
    """dattri's vmapped gradients, and its `random_project`, made once instead of for each batch."""
    from dattri.func.projection import random_project  # type: ignore[import-not-found]
    from dattri.task import AttributionTask  # type: ignore[import-not-found]

    def functional_loss(weights: dict[str, Tensor], clip: Clips) -> Tensor:
        return loss(lambda *args, **options: functional_call(model, weights, args, options), *clip)

    task = AttributionTask(functional_loss, model, model.state_dict())
    weights, _ = task.get_param(ckpt_idx=0)
    gradients = partial(task.get_grad_loss_func(in_dims=(None, 0)), weights.detach())
    like = torch.empty(ROWS, num_parameters(model))
    project = random_project(like, ROWS, dim, ROWS, proj_seed=seed, proj_type=kind, device="cpu")
    return lambda: projected(clips, like.shape[1], gradients, project)


def projected(
    clips: Clips, size: int, gradients: Callable[[Clips], Tensor], project: Callable[[Tensor], Tensor]
) -> Float[Tensor, "N D"]:
    """Gradients, one clip at a time, into the rows of one matrix that is projected when it is full."""
    sketches = []
    held = torch.empty(ROWS, size)
    for some in zip(*(x.split(ROWS) for x in clips), strict=True):
        rows = held[: len(some[0])]
        for row, clip in zip(rows, zip(*(x.split(1) for x in some), strict=True), strict=True):
            row.copy_(gradients(clip)[0])
        sketches.append(project(rows).clone())
    return torch.cat(sketches)


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def status(name: str) -> float:
    """A line of /proc/self/status, in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


WAYS = {"ours": ours, "trak": trak, "trak_whole": partial(trak, blocks=False), "dattri": dattri}


def main(way: str, kind: str, dim: str, seed: str, path: str, clips_file: str, out: str) -> None:
    """Measure one way and write its sketches, and in their header what they cost."""
    torch.set_num_threads(1)
    model = load_transformer(path, "float32", "cpu").eval()
    tensors = load_file(clips_file)
    clips = [tensors[name] for name in CLIP]
    sketches, costs = measured(partial(WAYS[way], model, clips, kind, int(dim), int(seed)))
    save_file({"sketch": sketches.contiguous()}, out, {name: str(cost) for name, cost in costs.items()})


def measured(prepare: Callable[[], Run]) -> tuple[Float[Tensor, "N D"], dict[str, float]]:
    """The sketches; processor seconds of what comes before them and of a clip, and memory in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is loaded now
    before = status("VmRSS")
    start = time.process_time()
    run = prepare()
    ready = time.process_time()
    sketches = run()
    costs = {
        "setup_seconds": ready - start,
        "seconds": (time.process_time() - ready) / len(sketches),
        "mb": status("VmHWM") - before,
    }
    return sketches, costs


if __name__ == "__main__":
    main(*sys.argv[1:])
