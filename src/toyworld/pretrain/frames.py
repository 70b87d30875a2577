"""Clips to pretrain on, drawn from other seeds of the rendered world and kept as one array of frames."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from toyworld.drawing import draw_clip
from toyworld.scenes import training_scene

NUM_FRAMES = 13
FPS = 10.0
SIZE = (64, 64)  # height, width
WORK = Path(".motive/pretrain")
log = logging.getLogger("motive")


@dataclass(frozen=True)
class Drawn:
    """Frames uint8 [N,F,H,W,3], where they move bool [N,F,H,W], captions [N]; the arrays are memory maps."""

    frames: np.ndarray
    moving: np.ndarray
    captions: list[str]
    motions: list[str]


def moving_region(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Pixels of an object that moves: mask bool [F,H,W] and flow [F,2,H,W] to bool [F,H,W].

    The region of frame f is what the object covers in f or covered in f-1, if it moved between them;
    frame 0 borrows the region of frame 1.
    """
    before = np.concatenate([mask[:1], mask[:-1]])
    speed = np.hypot(flow[:, 0], flow[:, 1])
    moved = np.array([(speed[f][before[f]] > 0.25).any() for f in range(len(mask))])
    moved[0] = moved[1]
    return (mask | before) & moved[:, None, None]


def draw_frames(name: str, num_clips: int, physical_share: float, seed: int) -> Drawn:
    """Draw clips once and keep them under .motive/pretrain/NAME; clip i depends on (seed, i) alone."""
    folder = WORK / name
    recipe = {"num_clips": num_clips, "physical_share": physical_share, "seed": seed}
    if not _is_drawn(folder / "recipe.json", recipe):
        _draw(folder, recipe, (num_clips, NUM_FRAMES, *SIZE))
    notes = json.loads((folder / "recipe.json").read_text())
    return Drawn(
        np.load(folder / "frames.npy", mmap_mode="r"),
        np.load(folder / "moving.npy", mmap_mode="r"),
        notes["captions"],
        notes["motions"],
    )


def _is_drawn(path: Path, recipe: dict) -> bool:
    if not path.is_file():
        return False
    return recipe.items() <= json.loads(path.read_text()).items()


def _draw(folder: Path, recipe: dict, shape: tuple[int, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (*shape, 3))
    moving = np.lib.format.open_memmap(folder / "moving.npy", "w+", np.bool_, shape)
    captions = []
    motions = []
    for i in tqdm(range(shape[0]), desc=f"draw {folder.name}", unit="clip"):
        scene = training_scene(np.random.default_rng([recipe["seed"], i]), recipe["physical_share"])
        clip = draw_clip(scene, NUM_FRAMES, FPS)
        frames[i] = clip.frames
        moving[i] = moving_region(clip.mask, clip.flow)
        captions.append(scene.caption)
        motions.append(scene.kind)
    frames.flush()
    moving.flush()
    (folder / "recipe.json").write_text(json.dumps({**recipe, "captions": captions, "motions": motions}))
