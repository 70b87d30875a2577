"""Fine-tunes the base on a set of clips, over and over, and measures what each run made of the losses.

Common random numbers: the order in which clips come, and the noise and the noise level of a clip's n-th
visit, depend on the seed, the clip and n alone. Two runs differ in which clips they see, and in nothing else.
The noise levels divide the distribution of finetuning evenly and come in turn: a clip is not better than
another by the luck of its level. Noises are many, as in any training: a few that all share would be learnt.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import count, islice, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.maths.denoising import shifted
from motive.maths.losses import loss_grid
from motive.maths.training import plain_loss, rng_of
from motive.models import backbones
from motive.models import folder as model_folder
from motive.params import Params
from motive.store.hashes import text_digest
from motive.store.jobs import Job
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest
from motive.store.work import write_chunk
from motive.validation.settings import Settings, Training
from motive.workers.missing import make_missing

VERSION = 1  # raise it when the same run comes to mean other losses


class Run(NamedTuple):
    """One training: on which pool clips (none: the base itself) and with which seed."""

    clip_ids: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return text_digest(f"{self.seed} {' '.join(self.clip_ids)}")


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
    settings: Settings
    runs: dict[str, Run]
    candidates: tuple[str, ...]
    measured: dict[str, list[str]]


def retraining_job(
    candidates: list[str], settings: Settings, params: Params, runs: list[Run], measured: dict[str, list[str]]
) -> Job:
    """Of each run, by name: of each part's `measured` clips the losses [n,sigmas,noises].

    Motion-weighted as `PART`, plain as `PART_plain`.
    """
    decides = params.finetuning.model_dump(include={"shift", "weight_decay", "max_grad_norm"})
    how = {**asdict(settings.training), **decides, "max_tokens": params.latents.max_tokens}
    how |= {"sigmas": list(settings.loss_sigmas), "noise_seeds": list(settings.loss_noise_seeds)}
    inputs = {"model": model_folder.fingerprint(params.model.path, "transformer")}
    inputs["pool"] = read_manifest(Path("data/pool/latents"))["digest"]
    for part, stage in product(measured, ("latents", "masks")):
        inputs[f"{part}/{stage}"] = read_manifest(Path("data") / part / stage)["digest"]
    recipe = Recipe("validation", VERSION, how | {"candidates": candidates, "measured": measured}, inputs)
    named = {run.name: run for run in runs}
    work = Work(recipe, params, settings, named, tuple(candidates), measured)
    label = f"validate: trainings, measured on {' and '.join(measured)}"
    return Job(label, recipe, list(named), 1, partial(make_runs, work))


def measured_ids(part: str) -> list[str]:
    """The clips of a part that have a latent and a mask in which something moves."""
    folder = Path("data") / part
    latents, masks = locate(folder / "latents"), locate(folder / "masks")
    stored = read_clip_tensors(masks, [clip_id for clip_id in masks if clip_id in latents])
    return sorted(clip_id for clip_id, tensors in stored if tensors["mask"].any())


def retrain(jobs: list[Job], params: Params) -> None:
    """Make the runs that the work store lacks."""
    label = "validate: trainings, each a"  # "clip", says the bar
    make_missing(jobs, params.machine, params.model.device, label)


def make_runs(work: Work, names: list[str]) -> int:
    """Train some runs, measure them and keep what was measured; returns their number.

    Raises:
        ValueError: a loss is no number.
    """
    params, max_tokens = work.params, work.params.latents.max_tokens
    model, base = _base(params.model.path, params.model.device)
    candidates = _clips("pool", work.candidates, max_tokens)
    for name in names:
        model.load_state_dict(base)
        train(model, candidates, work.runs[name], work.settings.training, params)
        losses: dict[str, Tensor] = {}
        for part, ids in work.measured.items():
            clips = _clips(part, tuple(ids), max_tokens)
            motion, plain = measure(model, clips, work.settings, params)
            losses |= {part: motion, f"{part}_plain": plain}
        if not all(values.isfinite().all() for values in losses.values()):
            raise ValueError("a loss is no number after a short training: lower the learning rate")
        write_chunk(work.recipe, {name: losses}, {})
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
        how = training.num_levels, z.shape[1:], f.shift
        drawn = [draw(run.seed, row, visit, *how) for row, visit in batch]
        sigma, eps = (torch.stack(values).to(device) for values in zip(*drawn, strict=True))

        def predict(noised: Tensor, sigma: Tensor, text: Tensor = text) -> Tensor:
            return backbones.velocity(model, noised, sigma, text, params.clips.fps)

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
    seed: int, row: int, visit: int, num_levels: int, shape: tuple[int, ...], shift: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "C T h w"]]:
    """The noise level and the noise of a clip's n-th visit: each level in turn, clips beginning elsewhere."""
    level = (row + visit) % num_levels
    sigma = shifted(torch.sigmoid(torch.special.ndtri(torch.tensor((level + 0.5) / num_levels))), shift)
    return sigma, torch.randn(shape, generator=rng_of("validation noise", seed, row, visit))


# ---- measuring


def measure(model: nn.Module, clips: Clips, settings: Settings, params: Params) -> tuple[Tensor, Tensor]:
    """Losses [n,sigmas,noises] of the clips: motion-weighted, and plain."""
    grids, device, fps = [], params.model.device, params.clips.fps
    for z, text, W in zip(clips.z, clips.text, clips.W, strict=True):
        text = text[None].to(device)

        def predict(noised: Tensor, sigma: Tensor, text: Tensor = text) -> Tensor:
            return backbones.velocity(model, noised, sigma, text.expand(len(noised), -1, -1), fps)

        z, W = z.to(device), W.to(device)
        grids.append(loss_grid(predict, z, W, settings.loss_sigmas, settings.loss_noise_seeds))
    return torch.stack([grid["motion"] for grid in grids]), torch.stack([grid["plain"] for grid in grids])


# ---- what a worker keeps in memory


@lru_cache(maxsize=1)
def _base(path: str, device: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The transformer, and its weights as they came."""
    model: Any = backbones.load_transformer(path, "float32", device)
    return model, {name: tensor.clone() for name, tensor in model.state_dict().items()}


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
