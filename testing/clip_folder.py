"""A folder of clips, `pool`, for the clips stage: its parameters, drawn clips, and what became of them."""

from pathlib import Path

import numpy as np

from motive.clips.table import read_failures
from motive.params import Params, load_params
from motive.stages import clips, run_stage
from motive.video.writing import write_video

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml")
OUT = Path("data/pool/clips")


def clip_params(workers: int = 1, **keys: object) -> Params:
    """The shipped parameters with other keys of `clips`; three clips between two savings."""
    values = SHIPPED.model_dump()
    values["clips"] |= {"source": {"pool": "pool", "queries": "queries"}, "num_frames": 17, "fps": 12.0}
    values["clips"] |= keys
    values["evaluation"]["clips"] = "queries"
    return Params.model_validate(values | {"workers": workers, "shards": {"size": 3}})


def run_clips(workers: int = 1, **keys: object) -> None:
    """Run the stage on the pool, with other keys of `clips`."""
    run_stage(clips, clip_params(workers, **keys), "pool")


def draw(
    file: str, seed: int, num_frames: int = 17, caption: str | None = "a square", side: int = 32
) -> Path:
    """A small clip of a moving square in the pool's folder, its caption beside it."""
    frames = np.full((num_frames, side, side, 3), 40 + 12 * seed, np.uint8)
    corner = side // 4
    for k, frame in enumerate(frames):
        left = (k % 24) * side // 32
        frame[corner : 2 * corner, left : left + corner] = 200
    path = Path("pool") / file
    write_video(path, frames, 12.0)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def reasons() -> dict[str, str]:
    """file -> why it is no clip, in words."""
    table = read_failures("pool")
    return dict(zip(table["file"], table["reason"], strict=True))


def kinds() -> dict[str, str]:
    """file -> of which kind its failure is."""
    table = read_failures("pool")
    return dict(zip(table["file"], table["kind"], strict=True))


def written() -> dict[str, bytes]:
    """All that the stage wrote."""
    return {path.name: path.read_bytes() for path in OUT.iterdir()}
