"""Writes the rendered world: pool, queries and held-out clips as real videos, the truth beside them."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as tensors

from motive.store.files import write_bytes
from motive.video.writing import write_video
from motive.workers.deal import deal
from toyworld.drawing import Clip, draw_clip
from toyworld.looks import STYLES
from toyworld.motions import MOTIONS
from toyworld.scenes import CAMERAS, FAKES, HARMFUL_KINDS, UNLIKE_KINDS, Scene, sample_scene

VERSION = 2  # raise it when the same arguments come to mean other clips
SPLITS = ("pool", "queries", "heldout")
# Share of the pool and the kinds that divide it evenly.
POOL: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.40, MOTIONS),
    (0.05, UNLIKE_KINDS),
    (0.05, ("moving_object_moving_camera",)),
    (0.15, ("static",)),
    (0.15, CAMERAS),
    (0.20, HARMFUL_KINDS),
)
NEW_SHARE = 0.25  # of the held-out clips: looks, gravity and speeds that neither pool nor queries have
NEW_PACES = (0.65, 0.75, 1.3, 1.45)
RATES = (12, 16, 24, 30)
DURATIONS = (1.6, 4.0)
CLIPS_AT_ONCE = 8


class Order(NamedTuple):
    """One clip to render: which scene, from which seed, in what style or whose looks, and at what pace."""

    split: str
    name: str
    kind: str
    seed: tuple[int, int, int]
    size: tuple[int, int]
    style: str
    motion: str | None = None
    looks_of: "Order | None" = None
    pace: float = 1.0


class Take(NamedTuple):
    """A scene with its rate and length."""

    scene: Scene
    fps: int
    num_frames: int


class Truth(NamedTuple):
    """What is true of a clip: mask bool [F,H,W], camera f32 [F,2,3], flow f16 [F,2,H,W] px from f-1 to f."""

    mask: NDArray[np.bool_]
    camera: NDArray[np.float32]
    flow: NDArray[np.float16]


def write_world(
    out: Path,
    *,
    num_pool: int = 1000,
    num_queries_per_motion: int = 5,
    num_heldout: int = 200,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    query_look_share: float = 0.25,
    style: str = "simple",
    workers: int = 1,
) -> None:
    """Render the three splits into `out`; a render that was killed goes on where it stopped.

    Raises:
        ValueError: `out` holds a world of other arguments, there is no such style, or the size is odd, which
            H.264 cannot store.
    """
    if style not in STYLES:
        raise ValueError(f"there is no style {style!r}: use one of {', '.join(STYLES)}")
    if size[0] % 2 or size[1] % 2:
        raise ValueError(f"the frame {size[0]}x{size[1]} has an odd side: H.264 halves it for colour")
    arguments = {
        "version": VERSION,
        "num_pool": num_pool,
        "num_queries_per_motion": num_queries_per_motion,
        "num_heldout": num_heldout,
        "size": list(size),
        "seed": seed,
        "query_look_share": query_look_share,
        "style": style,
    }
    # The arguments lie in `begun` while clips are drawn, and in `done` from then on.
    done = out / "world.json"
    begun = out / "world.json.part"
    for record in (done, begun):
        if record.is_file() and json.loads(record.read_text()) != arguments:
            raise ValueError(f"{record} is of other arguments: delete {out} or choose another folder")
    if done.is_file():
        return
    write_bytes(begun, json.dumps(arguments, indent=2).encode() + b"\n")

    # What is not there yet is drawn.
    queries = list(order_queries(num_queries_per_motion, size, seed, style))
    orders = [
        *order_pool(num_pool, queries, query_look_share, size, seed, style),
        *queries,
        *order_heldout(num_heldout, size, seed, style),
    ]
    missing = [order for order in orders if not video_path(out, order).is_file()]
    chunks = (missing[i : i + CLIPS_AT_ONCE] for i in range(0, len(missing), CLIPS_AT_ONCE))
    deal(partial(render, out=out), chunks, workers, len(missing), "world")

    for split in SPLITS:
        write_tables(out / split, [order for order in orders if order.split == split])
    os.replace(begun, done)


def order_queries(per_motion: int, size: tuple[int, int], seed: int, style: str) -> Iterator[Order]:
    """The query clips, motion by motion."""
    for index in range(per_motion * len(MOTIONS)):
        motion = MOTIONS[index // per_motion]
        name = f"{motion}_{index % per_motion:02d}"
        yield Order("queries", name, motion, (seed, 1, index), size, style, motion)


def order_heldout(count: int, size: tuple[int, int], seed: int, style: str) -> Iterator[Order]:
    """The held-out clips, the motions in turn; the last of them are new in looks and laws."""
    first_new = count - round(NEW_SHARE * count)
    for index in range(count):
        motion = MOTIONS[index % len(MOTIONS)]
        name = f"{motion}_{index // len(MOTIONS):03d}"
        order = Order("heldout", name, motion, (seed, 2, index), size, style, motion)
        new = order._replace(name=f"new_{name}", style="new", pace=NEW_PACES[index // 10 % len(NEW_PACES)])
        yield order if index < first_new else new


def pool_kinds(count: int) -> list[str]:
    """The kind of each of `count` pool clips, sorted by group, every group's kinds in turn."""
    ends = np.rint(np.cumsum([0, *(share for share, _ in POOL)]) * count).astype(int)
    sizes = np.diff(ends)
    return [kinds[i % len(kinds)] for (_, kinds), size in zip(POOL, sizes, strict=True) for i in range(size)]


def order_pool(
    count: int, queries: list[Order], look_share: float, size: tuple[int, int], seed: int, style: str
) -> Iterator[Order]:
    """The pool clips in an order, and under names, that do not give their kind away."""
    rng = np.random.default_rng((seed, 3))
    kinds = [str(kind) for kind in rng.permutation(pool_kinds(count))]
    alike = draw_alike(kinds, look_share if queries else 0, rng)
    for index, kind in enumerate(kinds):
        motion = kind if kind in MOTIONS else None
        order = Order("pool", f"clip_{index:05d}", kind, (seed, 0, index), size, style, motion)
        yield in_looks_of_a_query(order, queries, rng) if index in alike else order


def draw_alike(kinds: list[str], share: float, rng: np.random.Generator) -> set[int]:
    """The rows of a share of the distractors: those that get the looks of a query."""
    distractors = [index for index, kind in enumerate(kinds) if kind not in (*MOTIONS, *UNLIKE_KINDS)]
    return set(rng.permutation(distractors)[: round(share * len(distractors))].tolist())


def in_looks_of_a_query(order: Order, queries: list[Order], rng: np.random.Generator) -> Order:
    """The order in the looks of a query that shows a motion it can fake: a ball rolls, a square does not."""
    fakes = FAKES.get(order.kind, MOTIONS)
    model = queries[rng.choice([row for row, query in enumerate(queries) if query.kind in fakes])]
    moves = order.kind != "static" and order.kind not in CAMERAS
    return order._replace(motion=model.kind if moves else None, looks_of=model)


def take(order: Order) -> Take:
    """The scene of an order and its rate and length, which depend on its seed alone."""
    rng = np.random.default_rng(order.seed)
    looks = take(order.looks_of).scene.looks if order.looks_of else None
    plain = order.split == "queries"
    scene = sample_scene(rng, order.kind, order.motion, looks, order.size, plain, order.style, order.pace)
    fps = int(rng.choice(RATES))
    return Take(scene, fps, round(float(rng.uniform(*DURATIONS)) * fps))


def video_path(out: Path, order: Order) -> Path:
    """Where an order's video goes."""
    return out / order.split / f"{order.name}.mp4"


def render(orders: list[Order], out: Path) -> int:
    """Draw and write clips; the video comes last, so that a clip whose video is there is complete."""
    for order in orders:
        scene, fps, num_frames = take(order)
        clip = draw_clip(scene, num_frames, fps)
        path = video_path(out, order)
        write_bytes(path.parent / "truth" / f"{order.name}.safetensors", truth_bytes(clip))
        write_video(path, clip.frames, float(fps))
    return len(orders)


def truth_bytes(clip: Clip) -> bytes:
    """A clip's truth as safetensors; the mask packed to bits along its rows."""
    mask = np.packbits(clip.mask, axis=-1)
    return tensors.save({"mask": mask, "camera": np.ascontiguousarray(clip.camera), "flow": clip.flow})


def read_truth(path: Path) -> Truth:
    """The truth written beside a clip."""
    stored = tensors.load_file(path)
    width = stored["flow"].shape[-1]
    return Truth(np.unpackbits(stored["mask"], -1, width).astype(bool), stored["camera"], stored["flow"])


def write_tables(folder: Path, orders: list[Order]) -> None:
    """Write what a user may know of a split's clips and, beside it, what is true of them."""
    write_bytes(folder / "truth" / "labels.jsonl", lines([truth_row(order) for order in orders]))
    write_bytes(folder / "metadata.jsonl", lines([metadata_row(order) for order in orders]))


def metadata_row(order: Order) -> dict[str, object]:
    """File and caption of a clip; the motion too, but not of a pool clip: that is to be attributed."""
    row: dict[str, object] = {"file_name": f"{order.name}.mp4", "caption": take(order).scene.caption}
    return row if order.split == "pool" else row | {"motion": order.motion}


def truth_row(order: Order) -> dict[str, object]:
    """What is true of a clip."""
    scene, fps, num_frames = take(order)
    return {
        "file_name": f"{order.name}.mp4",
        "kind": order.kind,
        "motion": scene.motion,
        "true": order.kind not in HARMFUL_KINDS,
        "new": order.style == "new",
        "looks_of_query": f"{order.looks_of.name}.mp4" if order.looks_of else None,
        "fps": fps,
        "duration": num_frames / fps,
    }


def lines(rows: list[dict]) -> bytes:
    """Rows as JSON, one a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
