"""The judge: a small network that tells true motion from false by the object's path alone.

It sees no pixels, so looks can't mislead it: centre, size, proportions and turn of the object in each frame,
and the motion that the caption names. It learns from freshly drawn scenes, with a little of the noise that a
path has in a generated video, and moved aside and at other paces: these are no less true.
"""

from pathlib import Path as FilePath
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from motive.maths.statistics import auc
from motive.store.files import write_tensors
from toyworld.drawing import draw_clip
from toyworld.measures.motion import Path, path_of
from toyworld.measures.objects import appearance, find_object
from toyworld.motions import MOTIONS
from toyworld.scenes import FAKES, HARMFUL_KINDS, sample_scene

WEIGHTS = FilePath(__file__).with_name("judge.safetensors")
NUM_FRAMES = 9  # that the judge sees ...
FPS = 8.0  # ... at this rate: paths of other rates are read between their frames
NUM_SCENES = 6000  # half of them true
SEED = 4_000_004
WIDTH = 128
EPOCHS = 60
BATCH = 128
RATE = 2e-3
# Std of the noise: px of the centre, shares of the area and of the moments, rad.
NOISE = (0.4, 0.04, 0.05, 0.08)
SHIFT = 4.0  # px, the largest by which a path is moved aside
PACES = (0.7, 1.4)


class Example(NamedTuple):
    """A path, the motion it claims to show, the kind of its clip, and whether that is the true one."""

    path: Path
    motion: str
    kind: str
    true: bool


def draw_examples(num_scenes: int, seed: int) -> list[Example]:
    """Paths of true and of harmful clips in turn, evenly over the motions."""
    examples = []
    for i in tqdm(range(num_scenes), desc="scenes", unit="scene"):
        rng = np.random.default_rng([seed, i])
        motion = MOTIONS[i // 2 % len(MOTIONS)]
        true = i % 2 == 0
        kind = motion if true else str(rng.choice([kind for kind in HARMFUL_KINDS if motion in FAKES[kind]]))
        pace = float(rng.choice((1.0, rng.uniform(*PACES))))
        scene = sample_scene(rng, kind, motion, style="both", pace=pace)
        looks = appearance(scene.caption)
        assert looks is not None
        pixels = find_object(draw_clip(scene, NUM_FRAMES, FPS).frames, looks)
        examples.append(Example(path_of(pixels), motion, kind, true))
    return examples


def features(path: Path, motion: str, noise: np.random.Generator | None = None) -> Float[Tensor, "X"]:
    """A path as numbers near 1: values of each frame, their first and second differences, and the motion."""
    centre, area, moments, angle = path
    if noise is not None:
        spread = NOISE
        centre = centre + noise.normal(0, spread[0], centre.shape) + noise.uniform(-SHIFT, SHIFT, 2)
        area = area * np.exp(noise.normal(0, spread[1], area.shape))
        moments = moments * np.exp(noise.normal(0, spread[2], moments.shape))
        angle = angle + noise.normal(0, spread[3], angle.shape)
    marked = np.isfinite(angle).all()
    turn = np.unwrap(angle) - angle[0] if marked else np.zeros(len(area))
    middle = max(float(np.median(area)), 1.0)
    values = np.stack(
        [
            (centre[:, 0] - 32) / 16,
            (centre[:, 1] - 32) / 16,
            np.log(np.maximum(area, 1) / middle) * 4,
            moments[:, 0, 0] / middle * 8,
            moments[:, 1, 1] / middle * 8,
            moments[:, 0, 1] / middle * 8,
            turn,
        ],
        -1,
    )
    changes = np.diff(values, axis=0)
    bends = np.diff(changes, axis=0)
    radius = np.sqrt(middle / np.pi) / 10
    named = np.eye(len(MOTIONS))[MOTIONS.index(motion)]
    flat = np.concatenate(
        [values.ravel(), 2 * changes.ravel(), 4 * bends.ravel(), named, [float(marked), radius]]
    )
    return torch.from_numpy(np.clip(flat, -8, 8)).float()


def build_judge() -> nn.Module:
    """The network: three layers."""
    size = 7 * (3 * NUM_FRAMES - 3) + len(MOTIONS) + 2
    return nn.Sequential(
        nn.Linear(size, WIDTH),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, WIDTH),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, 1),
    )


def train_judge(out: FilePath = WEIGHTS) -> nn.Module:
    """Train the judge on fresh scenes and write its weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    examples = draw_examples(NUM_SCENES, SEED)
    truth = torch.tensor([float(example.true) for example in examples])
    model = build_judge().train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    rng = np.random.default_rng(SEED)
    for _ in tqdm(range(EPOCHS), desc="judge", unit="epoch"):
        X = torch.stack([features(example.path, example.motion, rng) for example in examples])
        for rows in torch.randperm(len(X)).split(BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(model(X[rows])[:, 0], truth[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
    write_tensors(out, {name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    return model.eval()


def load_judge(path: FilePath = WEIGHTS) -> nn.Module:
    """The judge that ships with the world."""
    model = build_judge()
    model.load_state_dict(load_file(path))
    return model.eval()


@torch.no_grad()
def physical(model: nn.Module, path: Path, motion: str, fps: float) -> float:
    """The judge's probability that a path is physical for its motion; NaN of a video too short for it."""
    if (len(path.area) - 1) / fps < (NUM_FRAMES - 1) / FPS - 1e-6:
        return float("nan")
    return float(torch.sigmoid(model(features(at_rate(path, fps), motion)))[0])


def at_rate(path: Path, fps: float) -> Path:
    """A path at the judge's moments, read between its frames."""
    moments = np.arange(NUM_FRAMES) / FPS * fps
    frames = np.arange(len(path.area))

    def read(values: NDArray) -> NDArray:
        columns = values.reshape(len(values), -1)
        between = [np.interp(moments, frames, column) for column in columns.T]
        return np.stack(between, -1).reshape(NUM_FRAMES, *values.shape[1:])

    return Path(*map(read, path))


def judge_auc(num_scenes: int = 1000) -> dict[str, object]:
    """How well the judge tells unseen true clips from harmful ones: `judge_auc`, and of each harmful kind."""
    model = load_judge()
    examples = draw_examples(num_scenes, SEED + 1)
    scores = np.array([physical(model, example.path, example.motion, FPS) for example in examples])
    true = np.array([example.true for example in examples])
    of_kind = {}
    for kind in HARMFUL_KINDS:
        harmful = np.array([example.kind == kind for example in examples])
        if harmful.any():
            motions = {example.motion for example in examples if example.kind == kind}
            same = np.array([example.true and example.motion in motions for example in examples])
            of_kind[kind] = auc(scores[same], scores[harmful])
    return {"judge_auc": auc(scores[true], scores[~true]), "judge_auc_by_kind": of_kind}
