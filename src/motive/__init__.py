"""Which training clips taught a video model its motion, and fine-tuning on those that teach it well.

What a notebook needs stands here by name; a name's module is loaded when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as below, for editors and type checkers
    from motive.clips.table import read_clips as read_clips
    from motive.images.motion import Panel as Panel
    from motive.images.motion import motion_sheet as motion_sheet
    from motive.maths.influence import influence as influence
    from motive.maths.plan import Plan as Plan
    from motive.maths.projection import CountSketch as CountSketch
    from motive.maths.projection import Fastfood as Fastfood
    from motive.maths.ranking import rank as rank
    from motive.maths.ranking import votes as votes
    from motive.models.backbones import load_text_encoder as load_text_encoder
    from motive.models.backbones import load_transformer as load_transformer
    from motive.models.backbones import load_vae as load_vae
    from motive.models.backbones import velocity as velocity
    from motive.params import load_params as load_params
    from motive.per_clip import encode_clip as encode_clip
    from motive.per_clip import motion_mask as motion_mask
    from motive.per_clip import optical_flow as optical_flow
    from motive.per_clip import sketch_clip as sketch_clip
    from motive.query import query_pool as query_pool
    from motive.results import read_influence as read_influence
    from motive.results import read_ranking as read_ranking
    from motive.results import read_subset as read_subset
    from motive.trackers.interface import load_tracker as load_tracker
    from motive.video.reading import read_frames as read_frames
    from motive.video.writing import write_video as write_video

_MODULES = {
    # one clip's work, from plain arguments
    "optical_flow": "motive.per_clip",
    "motion_mask": "motive.per_clip",
    "encode_clip": "motive.per_clip",
    "sketch_clip": "motive.per_clip",
    # ... and what it is given
    "load_tracker": "motive.trackers.interface",
    "load_vae": "motive.models.backbones",
    "load_text_encoder": "motive.models.backbones",
    "load_transformer": "motive.models.backbones",
    "velocity": "motive.models.backbones",
    "Plan": "motive.maths.plan",
    "CountSketch": "motive.maths.projection",
    "Fastfood": "motive.maths.projection",
    # sketches -> who teaches what
    "influence": "motive.maths.influence",
    "votes": "motive.maths.ranking",
    "rank": "motive.maths.ranking",
    # a finished project
    "load_params": "motive.params",
    "query_pool": "motive.query",
    "read_clips": "motive.clips.table",
    "read_ranking": "motive.results",
    "read_influence": "motive.results",
    "read_subset": "motive.results",
    # videos and images
    "read_frames": "motive.video.reading",
    "write_video": "motive.video.writing",
    "motion_sheet": "motive.images.motion",
    "Panel": "motive.images.motion",
}
__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module 'motive' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])


def _version() -> str:
    """Of what is installed; of a source tree that is not, what its pyproject.toml says."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    try:
        return version("motive")
    except PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"]
