"""What camera labels and masks say of real clips, whose motion anybody can see."""

import gzip
import shutil
import subprocess
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from motive.images.motion import motion_sheet
from motive.images.panels import describe, read_panels
from motive.images.png import write_png
from motive.models.folder import read_strides
from motive.params import Params
from motive.stages import clips, masks, optical_flow, run_stage
from motive.store.shards import locate, read_clip_tensors
from motive.video.reading import read_frames
from motive.video.writing import write_video
from testing.real_clips import real_clip

SIZE = {"num_frames": 49, "fps": 16.0, "height": 240, "width": 416}
FLOOR = 11.0  # pixels per second: the shipped 3 of 64, on 240
DEBIAN = "opencv-doc"  # a Debian package with clips; `apt-get download` fetches it


class RealClip(NamedTuple):
    """A real clip, what anybody sees in it, and where it begins (seconds)."""

    file: str
    shows: str
    kind: str
    start: float = 0.0


CLIPS = (
    RealClip("walker.mp4", "one walker, camera on a tripod", "object"),
    RealClip("globe.avi", "a globe turns", "object"),
    RealClip("city.mpg", "only the camera moves, houses near and far", "camera"),
    RealClip("bunny.mp4", "a rabbit gets up, the camera drifts", "both"),
    RealClip("carphone.mp4", "a head before a car's window", "object or both"),
    RealClip("box.mp4", "a hand moves a box", "object", 3.0),
    RealClip("cup.mp4", "a hand moves a cup before a wall", "object", 2.5),
    RealClip("vtest.avi", "pedestrians from above", "object", 5.0),
    RealClip("tree.avi", "leaves in the wind", "object", 14.0),
)


def measure(params: Params, images: Path | None) -> dict[str, float]:
    """How many are labelled as they look; a table of all, and a sheet in the folder `images`."""
    sheet = images and images.resolve() / "real_motion.png"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shown = fetch(Path("pool"))
        here = sized(params)
        rows = pool_rows(here)
        if sheet:
            draw(pd.DataFrame(rows), here, sheet)
    pairs = [(shown[Path(row["video"]).stem], row) for row in rows]
    print_table(sorted(pairs, key=lambda pair: CLIPS.index(pair[0])))
    num_right = sum(row["motion_kind"] in clip.kind.split(" or ") for clip, row in pairs)
    return {"real_clips": len(pairs), "real_kind_accuracy": num_right / len(pairs)}


def pool_rows(params: Params) -> list[dict[str, Any]]:
    """Masks of the pool in the working folder; of each clip, its row of the clip table and its statistics."""
    for stage in (clips, optical_flow, masks):
        run_stage(stage, params, "pool")
    table = pd.read_parquet("data/pool/clips/clips.parquet")
    stats = pd.read_parquet("data/pool/masks/mask_stats.parquet")
    return table.merge(stats, on="clip_id").to_dict("records")  # type: ignore[return-value]


def masks_of(clip_ids: list[str]) -> dict[str, torch.Tensor]:
    """clip_id -> mask [T,h,w] of pool clips of the working folder."""
    shards = locate(Path("data/pool/masks"))
    return {clip_id: tensors["mask"] for clip_id, tensors in read_clip_tensors(shards, clip_ids)}


def fetch(folder: Path) -> dict[str, RealClip]:
    """Put the clips there are into a folder, from where each begins; stem -> what it shows."""
    debian = from_debian(folder.parent / "debian")
    shown = {}
    for clip in CLIPS:
        path = debian.get(clip.file) if clip.start else real_clip(clip.file)
        if path is None:
            print(f"{clip.file} is left out: `apt-get download {DEBIAN}` did not work here")
            continue
        window: Any = {**SIZE, "resample": "window", "start": clip.start}
        write_video(folder / f"{path.stem}.mp4", read_frames(path, **window), SIZE["fps"], crf=1)
        shown[path.stem] = clip
    return shown


def from_debian(folder: Path) -> dict[str, Path]:
    """The clips of Debian's package by name; none where it can't be fetched."""
    folder.mkdir()
    try:
        subprocess.run(["apt-get", "download", DEBIAN], cwd=folder, check=True, capture_output=True)
        package = next(folder.glob("*.deb")).name
        subprocess.run(["dpkg", "-x", package, "all"], cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    for packed in folder.rglob("*.mp4.gz"):
        with gzip.open(packed) as source, packed.with_suffix("").open("wb") as target:
            shutil.copyfileobj(source, target)
    wanted = {clip.file for clip in CLIPS if clip.start}
    return {path.name: path for path in folder.rglob("*") if path.name in wanted}


def sized(params: Params) -> Params:
    """The shipped parameters at a size and rate that suit real clips."""
    source = params.clips.source | {"pool": "pool"}
    sections = {
        "clips": params.clips.model_copy(update=SIZE | {"source": source, "missing_caption": "empty"}),
        "optical_flow": params.optical_flow.model_copy(update={"stride": 8}),
        "masks": params.masks.model_copy(update={"floor": FLOOR}),
    }
    return params.model_copy(update=sections)


def draw(table: pd.DataFrame, params: Params, path: Path) -> None:
    """One sheet of all clips: frames, optical flow, the same without the camera, mask."""
    panels = read_panels(
        table,
        describe(table.rename(columns={"motion_y": "motion"})),
        masks_of(table["clip_id"].tolist()),
        Path("data/pool/optical_flow"),
        params.clips.model_dump(include={*SIZE, "resample"}),
    )
    pairs = zip(panels, table["video"], strict=True)
    named = [panel._replace(title=Path(file).stem) for panel, file in pairs]
    write_png(path, motion_sheet(named, params.clips.fps, read_strides(params.model.path)[0]))
    print(f"look at {path}")


def print_table(pairs: list[tuple[RealClip, dict[str, Any]]]) -> None:
    """A row a clip."""
    from rich.console import Console
    from rich.table import Table

    table = Table("clip", "what it shows", "should be", "is", "camera", "px/s", "without camera", "inliers")
    for clip, row in pairs:
        speeds = f"{row['motion_y']:.1f}", f"{row['own_motion']:.1f}", f"{row['inlier_ratio']:.2f}"
        table.add_row(clip.file, clip.shows, clip.kind, row["motion_kind"], row["camera"], *speeds)
    Console(markup=False, width=130).print(table)
