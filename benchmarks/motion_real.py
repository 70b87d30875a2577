"""What camera labels and masks say of real clips, whose motion anybody can see."""

import gzip
import shutil
import subprocess
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from motive.images.motion import motion_sheet
from motive.images.panels import describe, read_panels
from motive.images.png import write_png
from motive.models.folder import read_strides
from motive.params import Params
from motive.stages import clips, masks, optical_flow, run_stage
from motive.store.shards import locate, read_clip_tensors
from testing.real_clips import real_clip

SIZE = {"num_frames": 49, "fps": 16.0, "height": 240, "width": 416}
FLOOR = 11.0  # pixels per second: the shipped 3 of 64, on 240
DEBIAN = "opencv-doc"  # a Debian package with clips; `apt-get download` fetches it


class Known(NamedTuple):
    """A real clip, what anybody sees in it, and where it begins (seconds)."""

    file: str
    shows: str
    kind: str
    start: float = 0.0


CLIPS = (
    Known("walker.mp4", "one walker, camera on a tripod", "object"),
    Known("globe.avi", "a globe turns", "object"),
    Known("city.mpg", "only the camera moves, houses near and far", "camera"),
    Known("bunny.mp4", "a rabbit gets up, the camera drifts", "both"),
    Known("carphone.mp4", "a head before a car's window", "object or both"),
    Known("box.mp4", "a hand moves a box", "object", 3.0),
    Known("cup.mp4", "a hand moves a cup before a wall", "object", 2.5),
    Known("vtest.avi", "pedestrians from above", "object", 5.0),
    Known("tree.avi", "leaves in the wind", "object", 14.0),
)


def measure(params: Params, pictures: Path | None) -> dict[str, float]:
    """How many are labelled as they look; a table of all, and a sheet in `pictures`."""
    pictures = pictures.resolve() if pictures else None
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        known = fetch(Path("pool"))
        here = sized(params)
        for stage in (clips, optical_flow, masks):
            run_stage(stage, here, "pool")
        table = pd.read_parquet("data/pool/clips/clips.parquet")
        facts = table.merge(pd.read_parquet("data/pool/masks/mask_stats.parquet"), on="clip_id")
        if pictures:
            draw(facts, here, pictures)
    rows: list[Any] = [(known[Path(row["video"]).stem], row) for row in facts.to_dict("records")]
    right = [row["motion_kind"] in clip.kind.split(" or ") for clip, row in rows]
    print_table(sorted(rows, key=lambda pair: CLIPS.index(pair[0])))
    return {"real_clips": len(rows), "real_kind_accuracy": sum(right) / len(right)}


def fetch(folder: Path) -> dict[str, Known]:
    """Put the clips there are into a folder, cut to their parts; stem -> what is known of each."""
    from motive.video.reading import read_frames
    from motive.video.writing import write_video

    debian = from_debian(folder.parent / "debian")
    found = {}
    for clip in CLIPS:
        path = debian.get(clip.file) or (None if clip.start else real_clip(clip.file))
        if path is None:
            print(f"{clip.file} is left out: `apt-get download {DEBIAN}` did not work here")
            continue
        how: Any = {**SIZE, "resample": "window", "start": clip.start}
        write_video(folder / f"{path.stem}.mp4", read_frames(path, **how), SIZE["fps"], crf=1)
        found[path.stem] = clip
    return found


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
    found = params.clips.model_copy(update=SIZE | {"source": source, "missing_caption": "empty"})
    flow = params.optical_flow.model_copy(update={"stride": 8})
    weighed = params.masks.model_copy(update={"floor": FLOOR})
    return params.model_copy(update={"clips": found, "optical_flow": flow, "masks": weighed})


def draw(facts: pd.DataFrame, params: Params, folder: Path) -> None:
    """One sheet of all clips: frames, optical flow, the same without the camera, mask."""
    ids, words = facts["clip_id"].tolist(), describe(facts.rename(columns={"motion_y": "motion"}))
    weights = {i: clip["mask"] for i, clip in read_clip_tensors(locate(Path("data/pool/masks")), ids)}
    how = params.clips.model_dump(include={*SIZE, "resample"})
    panels = list(read_panels(facts, words, weights, Path("data/pool/optical_flow"), how))
    named = [
        panel._replace(title=Path(file).stem) for panel, file in zip(panels, facts["video"], strict=True)
    ]
    write_png(
        folder / "real_motion.png", motion_sheet(named, params.clips.fps, read_strides(params.model.path)[0])
    )
    print(f"look at {folder / 'real_motion.png'}")


def print_table(rows: list[Any]) -> None:
    """A row a clip."""
    from rich.console import Console
    from rich.table import Table

    table = Table("clip", "what it shows", "should be", "is", "camera", "px/s", "without camera", "inliers")
    for clip, row in rows:
        speeds = f"{row['motion_y']:.1f}", f"{row['own_motion']:.1f}", f"{row['inlier_ratio']:.2f}"
        table.add_row(clip.file, clip.shows, clip.kind, row["motion_kind"], row["camera"], *speeds)
    Console(markup=False, width=130).print(table)
