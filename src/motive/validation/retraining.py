"""Fine-tunes the base on a set of clips, over and over, and measures what each run made of the losses.

Common random numbers: the noise and the noise level of a clip's n-th visit, and the order in which clips
come, depend on the seed, the clip and n alone. Two runs differ in which clips they see, and in nothing else.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.adapters import backbones
from motive.formats.jobs import Job
from motive.formats.shards import Recipe, locate, read_clip_tensors, read_manifest, write_part
from motive.maths.denoising import shifted
from motive.maths.metrics import loss_grid
from motive.maths.training import plain_loss, rng_of
from motive.params import Params
from motive.validation.settings import Training
from motive.workers import deal

VERSION = 1  # raise it when the same run comes to mean other losses
NOISE_SEEDS = (1, 2)  # of the losses: not the noise of the sketches, so that no noise is learnt by heart
POOL = Path("data/pool")


class Run(NamedTuple):
    """One training: on which pool clips (none: the base itself) and with which seed."""

    clip_ids: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return hashlib.sha256(f"{self.seed} {' '.join(self.clip_ids)}".encode()).hexdigest()[:16]


class Clips(NamedTuple):
    """Clips in memory, in the order of their ids: z [n,C,T,h,w], text [n,S,E], W [n,T,h,w]."""

    ids: list[str]
    z: Tensor
    text: Tensor
    W: Tensor


@dataclass(frozen=True)
class Work:
    """What a worker needs to know."""

    recipe: Recipe
    params: Params
    training: Training
    runs: dict[str, Run]
    candidates: tuple[str, ...]
    parts: tuple[str, ...]


def retraining_job(
    label: str,
    runs: list[Run],
    candidates: list[str],
    parts: tuple[str, ...],
    training: Training,
    params: Params,
) -> Job:
    """Of each run, by name: for each part the losses of its clips, `PART` [n,sigmas,noises] and `PART_plain`."""
    inputs = {"model": backbones.fingerprint(params.model.path, "transformer")}
    inputs["pool"] = read_manifest(POOL / "latents")["digest"]
    for part, stage in ((part, stage) for part in parts for stage in ("latents", "masks")):
        inputs[f"{part}/{stage}"] = read_manifest(Path("data") / part / stage)["digest"]
    decides = params.finetuning.model_dump(include={"shift", "weight_decay", "max_grad_norm"})
    settings = {**asdict(training), **decides, "max_tokens": params.latents.max_tokens}
    settings |= {"sigmas": list(params.evaluation.sigmas), "noise_seeds": list(NOISE_SEEDS)}
    settings |= {"measured": {part: measured_ids(part) for part in parts}, "candidates": candidates}
    recipe = Recipe("validation", VERSION, settings, inputs)
    named = {run.name: run for run in runs}
    work = Work(recipe, params, training, named, tuple(candidates), parts)
    return Job(label, recipe, list(named), 1, partial(make_runs, work))


def measured_ids(part: str) -> list[str]:
    """The clips of a part that have a latent and a mask in which something moves."""
    folder = Path("data") / part
    latents, masks = locate(folder / "latents"), locate(folder / "masks")
    stored = read_clip_tensors(masks, [clip_id for clip_id in masks if clip_id in latents])
    return sorted(clip_id for clip_id, tensors in stored if tensors["mask"].any())


def retrain(jobs: list[Job], num_workers: int) -> None:
    """Make the runs that the work store lacks."""
    chunks = [chunk for job in jobs for chunk in job.missing()]
    deal(_call, chunks, num_workers, len(chunks), "validate: trainings, each a")  # "clip", says the bar


def _call(chunk: Callable[[], int]) -> int:
    return chunk()


def make_runs(work: Work, names: list[str]) -> int:
    """Train some runs, measure them and keep what was measured; returns their number.

    Raises:
        ValueError: a loss is no number.
    """
    model, base = _base(work.params.model.path, work.params.model.device)
    for name in names:
        run = work.runs[name]
        model.load_state_dict(base)
        train(model, _candidates(work), run, work.training, work.params)
        losses: dict[str, Tensor] = {}
        for part in work.parts:
            losses |= measure(model, part, tuple(work.recipe.params["measured"][part]), work.params)
        if not all(values.isfinite().all() for values in losses.values()):
            raise ValueError("a loss is no number after a short training: lower --learning-rate")
        write_part(work.recipe, {name: losses}, {})
    return len(names)


# ---- training


def train(model: nn.Module, clips: Clips, run: Run, training: Training, params: Params) -> None:
    """Fine-tune on the run's clips, by the ordinary loss, at a constant learning rate."""
    if not run.clip_ids:
        return
    f, device = params.finetuning, params.model.device
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=f.weight_decay)
    stream = visits(clips.ids, set(run.clip_ids), run.seed)
    for _ in range(training.steps):
        batch = list(islice(stream, training.batch_size))
        rows = [row for row, _ in batch]
        z, text = clips.z[rows].to(device), clips.text[rows].to(device)
        drawn = [draw(run.seed, clips.ids[row], visit, z.shape[1:], f.shift) for row, visit in batch]
        sigma, eps = (torch.stack(values).to(device) for values in zip(*drawn, strict=True))

        def predict(noised: Tensor, sigma: Tensor, text: Tensor = text) -> Tensor:
            return backbones.velocity(model, noised, sigma, text)

        plain_loss(predict, z, eps, sigma).backward()
        nn.utils.clip_grad_norm_(trained, f.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


def visits(ids: list[str], chosen: set[str], seed: int) -> Iterator[tuple[int, int]]:
    """Yield (row, n-th visit) for ever: epoch n is an order of all ids in which the others are skipped."""
    for visit in count():
        for row in torch.randperm(len(ids), generator=rng_of("validation order", seed, visit)).tolist():
            if ids[row] in chosen:
                yield row, visit


def draw(
    seed: int, clip_id: str, visit: int, shape: tuple[int, ...], shift: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "C T h w"]]:
    """The noise level and the noise of a clip's n-th visit, in any run."""
    rng = rng_of("validation", seed, clip_id, visit)
    return shifted(torch.sigmoid(torch.randn((), generator=rng)), shift), torch.randn(shape, generator=rng)


# ---- measuring


def measure(model: nn.Module, part: str, clip_ids: tuple[str, ...], params: Params) -> dict[str, Tensor]:
    """`PART` (motion-weighted) and `PART_plain`: losses [n,sigmas,noises] of a part's clips."""
    clips, device, grids = _clips(part, clip_ids, params.latents.max_tokens), params.model.device, []
    for z, text, W in zip(clips.z, clips.text, clips.W, strict=True):
        text = text[None].to(device)

        def predict(noised: Tensor, sigma: Tensor, text: Tensor = text) -> Tensor:
            return backbones.velocity(model, noised, sigma, text.expand(len(noised), -1, -1))

        grids.append(loss_grid(predict, z.to(device), W.to(device), params.evaluation.sigmas, NOISE_SEEDS))
    names = {"motion": part, "plain": f"{part}_plain"}
    return {name: torch.stack([grid[kind] for grid in grids]) for kind, name in names.items()}


# ---- what a worker keeps in memory


@lru_cache(maxsize=1)
def _base(path: str, device: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The transformer, and its weights as they came."""
    model: Any = backbones.load_transformer(path, "float32", device)
    return model, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _candidates(work: Work) -> Clips:
    return _clips("pool", work.candidates, work.params.latents.max_tokens)


@lru_cache(maxsize=3)
def _clips(part: str, clip_ids: tuple[str, ...], max_tokens: int) -> Clips:
    folder, ids = Path("data") / part, list(clip_ids)
    latents = dict(read_clip_tensors(locate(folder / "latents"), ids))
    masks = dict(read_clip_tensors(locate(folder / "masks"), ids))
    return Clips(
        ids,
        torch.stack([latents[one]["latent"] for one in ids]).float(),
        backbones.padded([latents[one]["text"].float() for one in ids], max_tokens),
        torch.stack([masks[one]["mask"] for one in ids]).float(),
    )
