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
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from motive.maths.denoising import shifted
from motive.maths.losses import loss_grid
from motive.maths.training import plain_loss, rng_of
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.first_frame import Condition, FirstFrame, first_frame_of, is_clean
from motive.params import Params
from motive.store.hashes import text_digest
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest
from motive.store.work import write_chunk
from motive.validation.settings import Settings, Training

VERSION = 1  # raise it when the same run comes to mean other losses


class Run(NamedTuple):
    """One training: on which pool clips (none: the base itself) and with which seed."""

    clip_ids: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return text_digest(f"{self.seed} {' '.join(self.clip_ids)}")


class Clips(NamedTuple):
    """Clips in memory, in the order of their ids: z [n,C,T,h,w], text [n,S,E], W [n,T,h,w], first frames."""

    ids: list[str]
    z: Tensor
    text: Tensor
    W: Tensor
    given: FirstFrame | None


@dataclass(frozen=True)
class Work:
    """What a worker needs to know, but the runs."""

    candidates: tuple[str, ...]  # pool clips that may be trained on
    measured: dict[str, list[str]]  # clips whose losses are taken, by split
    settings: Settings
    params: Params


def retraining_job(work: Work, runs: list[Run]) -> Job:
    """Of each run, by name: of each split's measured clips the losses [n,sigmas,noises].

    Motion-weighted as `SPLIT`, plain as `SPLIT_plain`.
    """
    recipe = retraining_recipe(work)
    runs_by_name = {run.name: run for run in runs}
    label = f"validate: trainings, measured on {' and '.join(work.measured)}"
    return Job(label, recipe, list(runs_by_name), 1, partial(make_runs, work, recipe, runs_by_name))


def retraining_recipe(work: Work) -> Recipe:
    """All that decides the losses of a run, but the run itself."""
    settings = work.settings
    params = work.params
    keys = {
        **asdict(settings.training),
        **params.finetuning.model_dump(include={"shift", "weight_decay", "max_grad_norm"}),
        "max_tokens": params.latents.max_tokens,
        "condition": params.model.condition,
        "sigmas": list(settings.loss_sigmas),
        "noise_seeds": list(settings.loss_noise_seeds),
        "candidates": list(work.candidates),
        "measured": work.measured,
    }
    inputs = {
        "model": model_folder.fingerprint(params.model.path, "transformer"),
        "pool": read_manifest(stage_folder("latents", "pool"))["digest"],
    }
    for split, stage in product(work.measured, ("latents", "masks")):
        inputs[f"{split}/{stage}"] = read_manifest(stage_folder(stage, split))["digest"]
    return Recipe("validation", VERSION, keys, inputs)


def measured_ids(split: str) -> list[str]:
    """The clips of a split that have a latent and a mask in which something moves."""
    latents = locate(stage_folder("latents", split))
    masks = locate(stage_folder("masks", split))
    stored = read_clip_tensors(masks, [clip_id for clip_id in masks if clip_id in latents])
    return sorted(clip_id for clip_id, tensors in stored if tensors["mask"].any())


def make_runs(work: Work, recipe: Recipe, runs: dict[str, Run], names: list[str]) -> int:
    """Train some of the runs, measure them and keep what was measured; returns their number.

    Raises:
        ValueError: a loss is no number.
    """
    model, base = _base(work.params.model.path, work.params.model.device)
    candidates = _clips("pool", work.candidates, work.params.latents.max_tokens, work.params.model.condition)
    for name in names:
        model.load_state_dict(base)
        if runs[name].clip_ids:  # else it is the base itself
            train(model, candidates, runs[name], work.settings.training, work.params)
        write_chunk(recipe, {name: measure(model, work)}, {})
    return len(names)


def losses_by_run(job: Job, name: str) -> dict[str, Float[np.ndarray, "n"]]:
    """One of the job's losses of each clip, mean over noise levels and noises, by the name of the run."""
    kept = zip(job.ids, job.kept(), strict=True)
    return {run: tensors[name].double().mean((1, 2)).numpy() for run, tensors in kept}


# ---- training


def train(model: nn.Module, clips: Clips, run: Run, training: Training, params: Params) -> None:
    """Fine-tune on the run's clips, by the ordinary loss, at a constant learning rate."""
    weights = list(model.parameters())
    decay = params.finetuning.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=decay)
    for batch in islice(batches(clips, run, training, params), training.steps):
        z, text, sigma, eps, given = batch
        velocity = partial(backbones.velocity, model, text=text, fps=params.clips.fps, first_frame=given)
        plain_loss(velocity, z, eps, sigma, is_clean(given)).backward()
        nn.utils.clip_grad_norm_(weights, params.finetuning.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


class Batch(NamedTuple):
    """Of the clips that come next: z [B,C,T,h,w], text [B,S,E], sigma [B], eps like z, and first frames."""

    z: Tensor
    text: Tensor
    sigma: Tensor
    eps: Tensor
    given: FirstFrame | None


def batches(clips: Clips, run: Run, training: Training, params: Params) -> Iterator[Batch]:
    """Yield batches for ever."""
    device = params.model.device
    noise = (training.num_levels, clips.z.shape[1:], params.finetuning.shift)
    stream = visits(clips.ids, set(run.clip_ids), run.seed)
    while True:
        batch = list(islice(stream, training.batch_size))
        rows = [row for row, _ in batch]
        draws = [draw(run.seed, row, visit, *noise) for row, visit in batch]
        tensors = (clips.z[rows], clips.text[rows], *map(torch.stack, zip(*draws, strict=True)))
        given = None if clips.given is None else clips.given.of(rows).to(device)
        yield Batch(*(tensor.to(device) for tensor in tensors), given=given)


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


def measure(model: nn.Module, work: Work) -> dict[str, Float[Tensor, "n sigmas noises"]]:
    """Losses of each split's clips: motion-weighted as `SPLIT`, plain as `SPLIT_plain`.

    Raises:
        ValueError: one is no number.
    """
    losses: dict[str, Tensor] = {}
    for split, ids in work.measured.items():
        clips = _clips(split, tuple(ids), work.params.latents.max_tokens, work.params.model.condition)
        grids = [_clip_losses(model, clips, row, work) for row in range(len(ids))]
        losses[split] = torch.stack([grid["motion"] for grid in grids])
        losses[f"{split}_plain"] = torch.stack([grid["plain"] for grid in grids])
    if not all(values.isfinite().all() for values in losses.values()):
        raise ValueError("a loss is no number after a short training: lower the learning rate")
    return losses


def _clip_losses(model: nn.Module, clips: Clips, row: int, work: Work) -> dict[str, Tensor]:
    """The losses of one of the clips; all noise levels go through the model together."""
    settings = work.settings
    device = work.params.model.device
    rows = [row] * len(settings.loss_sigmas)
    given = None if clips.given is None else clips.given.of(rows).to(device)
    velocity = partial(
        backbones.velocity,
        model,
        text=clips.text[rows].to(device),
        fps=work.params.clips.fps,
        first_frame=given,
    )
    return loss_grid(
        velocity,
        clips.z[row].to(device),
        clips.W[row].to(device),
        settings.loss_sigmas,
        settings.loss_noise_seeds,
        is_clean(given),
    )


# ---- what a worker keeps in memory


@lru_cache(maxsize=1)
def _base(path: str, device: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The transformer, and its weights as they came."""
    model: Any = backbones.load_transformer(path, "float32", device)
    return model, {name: tensor.clone() for name, tensor in model.state_dict().items()}


@lru_cache(maxsize=3)
def _clips(split: str, clip_ids: tuple[str, ...], max_tokens: int, condition: Condition) -> Clips:
    ids = list(clip_ids)
    latents = dict(read_clip_tensors(locate(stage_folder("latents", split)), ids))
    masks = dict(read_clip_tensors(locate(stage_folder("masks", split)), ids))
    return Clips(
        ids,
        torch.stack([latents[one]["latent"] for one in ids]).float(),
        backbones.padded([latents[one]["text"].float() for one in ids], max_tokens),
        torch.stack([masks[one]["mask"] for one in ids]).float(),
        first_frame_of([latents[one] for one in ids], condition, "cpu"),
    )
