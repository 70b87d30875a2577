"""params.yaml -> frozen typed objects: an unknown, missing or wrong-typed key is an error.

No key has a default here: its value stands in params.yaml and nowhere else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from motive.allowed import OneOf, Words, wrong_key
from motive.extensions import extension_names

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Sigma = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Strategy = Literal["motive", "random", "motion_magnitude", "full", "drop_worst"]
Split = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$"), Words("name of small letters, digits and _")]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$"), Words("cpu | cuda | cuda:N")]
Address = Annotated[
    str,
    Field(pattern=r"^(local|auto|(ray://)?[\w.-]+:\d+)?$"),
    Words("empty | local | auto | HOST:PORT | ray://HOST:PORT"),
]


class Section(BaseModel):
    """A group of keys; strict: "3" is no number and 1.5 no count (a whole number does for a fraction)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Shards(Section):
    size: Count = Field(description="clips per shard: also what a killed run may lose")


class Model(Section):
    path: Text = Field(description="a diffusers folder or a hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(description="dtype of the transformer")
    device: Device = Field(description="cpu, cuda, or one GPU: cuda:0")
    condition: Literal["text", "first_frame"] = Field(
        description="what a video is made from: its text alone, or its first frame too (image to video)"
    )


class Clips(Section):
    source: dict[Split, Text] = Field(description="split -> its folder of clips; pool and queries are needed")
    num_frames: int = Field(ge=2, description="every clip becomes this many frames")
    fps: Positive = Field(description="... at this rate")
    height: Count = Field(description="pixels; scaled to cover height x width, cropped in the centre")
    width: Count = Field(description="pixels")
    resample: Literal["window", "stretch"] = Field(
        description="window: the first num_frames/fps seconds; stretch: the whole clip, evenly"
    )
    cut: Literal["whole", "shots"] = Field(
        description="whole: a file is a clip; shots: a video is as many clips as fit between its cuts"
    )
    cut_threshold: Positive = Field(
        description="a cut differs this many times more than the frames around it (cut: shots)"
    )
    duplicates: Literal["keep", "drop_exact", "drop_near"] = Field(
        description="which clips that show the same as another go: none, of the same bytes, of the same look"
    )
    near_duplicate_distance: Positive = Field(
        description="grey levels that clips of the same look may differ"
    )
    missing_caption: Literal["fail", "empty"] = Field(
        description="a clip without one fails, or gets an empty one"
    )
    max_pixels: Count = Field(description="a frame larger than this is refused unread")
    time_limit: Positive = Field(description="seconds; a file that takes longer to read hangs and fails")
    max_failed_fraction: float = Field(ge=0, le=1, description="more broken files than this stop the run")


TRACKERS = ("dis", "raft", "alltracker")


def tracker_names() -> list[str]:
    """Ours, and those of other packages."""
    return [*TRACKERS, *extension_names("motive.trackers")]


def _known_tracker(name: str) -> str:
    if name not in tracker_names():
        raise ValueError("no pixel tracker has this name")
    return name


TrackerName = Annotated[str, AfterValidator(_known_tracker), OneOf(tracker_names)]


class OpticalFlow(Section):
    tracker: TrackerName = Field(description="what follows the pixels")
    reference: Literal["adjacent", "first"] = Field(description="a vector's start: the frame before, frame 0")
    check: bool = Field(description="adjacent: compute the way back too, for confidence; costs double")
    preset: Literal["ultrafast", "fast", "medium"] = Field(description="for dis: speed against accuracy")
    weights: str = Field(description="for raft, alltracker: a file, or owner/name/file on the hub")
    repository: str = Field(description="for alltracker: a clone of its code that you trust")
    device: Device = Field(description="for raft, alltracker: cpu, cuda, or one GPU: cuda:0")
    stride: Count = Field(description="vectors are kept on a grid this many times smaller than the frame")


class Masks(Section):
    enabled: bool = Field(description="false: weight 1 everywhere (the ablation without motion mask)")
    camera: Literal["keep", "remove"] = Field(
        description="remove: what the camera's motion explains has no weight; keep: the paper"
    )
    floor: float = Field(ge=0, description="pixels per second below which nothing moves; 0: the paper")
    percentile: float = Field(
        gt=0, le=100, description="of what moves, from which on the weight is 1; 100, the maximum: the paper"
    )
    confidence: bool = Field(description="weigh by the tracker's confidence, where it has one")


class Latents(Section):
    max_tokens: Count = Field(description="captions are cut here")


class Sketches(Section):
    sigmas: tuple[Sigma, ...] = Field(
        min_length=1, strict=False, description="noise levels; each has a sketch of its own"
    )
    noise_seed: Seed = Field(description="one noise for every clip")
    parameters: Text = Field(description="all, attention, temporal, lora, or a regular expression of names")
    gradient_checkpointing: bool = Field(description="less memory, a third more time, the same numbers")
    projection: Literal["fastfood", "fold", "count_sketch"] = Field(
        description="how a gradient becomes a sketch; fastfood: the paper"
    )
    dim: Count = Field(description="numbers in a sketch, a power of two")
    projection_seed: Seed = Field(description="of the random projection")
    storage: Literal["float32", "float16", "int8", "bit"] = Field(
        description="dtype of the pool's sketches; queries have float32"
    )
    segments: Count = Field(description="stretches of a clip that are told apart; each costs a backward pass")


class Attribution(Section):
    method: Literal["cosine", "centred", "preconditioned"] = Field(
        description="cosine: the paper; centred: less the pool's mean; preconditioned: then by its covariance"
    )
    damping: Positive = Field(
        description="for preconditioned: in mean eigenvalues; more is nearer to centred"
    )
    percentile: float = Field(gt=0, lt=100, description="a query votes for clips above this percentile")
    motion: Text = Field(description="all: generalist; one motion of the queries: specialist")


class Curation(Section):
    strategy: Strategy = Field(description="who chooses; drop_worst: all but the most harmful clips")
    fraction: Fraction = Field(description="of the pool that is chosen (drop_worst: left out)")
    seed: Seed = Field(description="for strategy random")


class Finetuning(Section):
    method: Literal["full", "lora"] = Field(description="train all of the transformer, or a low-rank adapter")
    lora_rank: Count = Field(description="for method lora")
    learning_rate: Positive = Field(description="of AdamW")
    steps: Count = Field(description="optimiser steps")
    batch_size: Count = Field(description="clips a step, in each process")
    shift: Positive = Field(description="of the sigma schedule; 1: none")
    first_frame_share: float = Field(
        ge=0, le=1, description="of the steps: given the first frame, where model.condition is first_frame"
    )
    weight_decay: float = Field(ge=0, description="of AdamW")
    max_grad_norm: Positive = Field(description="gradients are clipped to this norm")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        description="dtype of the computation (accelerate)"
    )
    gradient_checkpointing: bool = Field(description="less memory, a third more time")
    checkpointing_steps: Count = Field(description="steps between checkpoints: what a killed run may lose")
    seed: Seed = Field(description="of order, sigmas and noise")


class Evaluation(Section):
    clips: Text = Field(description="the split of clips.source that the loss is measured on")
    sigmas: tuple[Sigma, ...] = Field(min_length=1, strict=False, description="noise levels of the loss grid")
    noise_seeds: tuple[Seed, ...] = Field(min_length=1, strict=False, description="noises of the loss grid")
    prompts: Text = Field(description="a text file, one prompt a line, where model.condition is text")
    first_frames: Count = Field(description="else held-out clips whose first frames and captions are used")
    measures: tuple[Text, ...] = Field(strict=False, description="more of generated videos: MODULE:FUNCTION")
    num_inference_steps: Count = Field(description="of the sampler, for each generated video")
    guidance_scale: float = Field(ge=0, description="of classifier-free guidance; 1: none")
    offload: Literal["none", "model", "group"] = Field(
        description="of the sampler, waits on the CPU: nothing, models not in use, layers not in use"
    )
    seed: Seed = Field(description="of the generated videos")


class Record(Section):
    experiment: Text = Field(description="name of the MLflow experiment")
    uri: str = Field(description="empty: sqlite in the project; else an MLflow server")
    drift_threshold: float = Field(
        ge=0, le=1, description="share of the pool that may differ from the data version before; more warns"
    )


class Machine(NamedTuple):
    """How the work is shared out: it changes no result, so no stage of dvc.yaml declares it."""

    workers: int
    ray: str
    shard_size: int


class Params(Section):
    """All of params.yaml, key by key."""

    workers: Count = Field(description="processes that share a stage's shards; each uses one thread")
    ray: Address = Field(
        description="empty: workers are processes; local: on a Ray of this machine; auto, HOST:PORT: on that"
    )
    shards: Shards
    model: Model
    clips: Clips
    optical_flow: OpticalFlow
    masks: Masks
    latents: Latents
    sketches: Sketches
    attribution: Attribution
    curation: Curation
    finetuning: Finetuning
    evaluation: Evaluation
    record: Record

    @property
    def machine(self) -> Machine:
        return Machine(self.workers, self.ray, self.shards.size)

    @model_validator(mode="after")
    def _agree(self) -> "Params":
        splits = self.clips.source
        missing = [split for split in ("pool", "queries") if split not in splits]
        if missing:
            present = ", ".join(splits) or "nothing"
            raise ValueError(f"clips.source has {present}: missing {' and '.join(missing)}")
        if self.evaluation.clips not in splits:
            allowed = f"{' | '.join(splits)} (clips.source)"
            raise ValueError(f"evaluation.clips is {self.evaluation.clips!r}: allowed: {allowed}")
        self._sizes_fit()
        self._tracker_has_all()
        if "@" in self.record.uri.partition("//")[2].partition("/")[0]:
            raise ValueError(
                "record.uri has a user or a password in it, which MLflow would record: "
                "leave it empty and set MLFLOW_TRACKING_URI in the environment"
            )
        return self

    def _sizes_fit(self) -> None:
        clips = self.clips
        sketches = self.sketches
        stride = self.optical_flow.stride
        if clips.height % stride or clips.width % stride:
            size = f"clips.height {clips.height} and clips.width {clips.width}"
            raise ValueError(f"optical_flow.stride is {stride}: must divide {size}")
        if sketches.dim < 8 or sketches.dim & (sketches.dim - 1):
            raise ValueError(f"sketches.dim is {sketches.dim}: must be a power of two, at least 8")
        if sketches.segments > 1 and sketches.storage == "bit":
            wanted = (
                "set sketches.storage to float16: the signs of segments don't add up to those of their clip"
            )
            raise ValueError(f"sketches.segments is {sketches.segments} and sketches.storage bit: {wanted}")

    def _tracker_has_all(self) -> None:
        flow = self.optical_flow
        if flow.tracker in ("raft", "alltracker") and not flow.weights:
            wanted = "a file, or owner/name/file on the hub"
            raise ValueError(f"optical_flow.weights is empty: tracker {flow.tracker} needs them: {wanted}")
        if flow.tracker == "alltracker" and not flow.repository:
            raise ValueError("optical_flow.repository is empty: tracker alltracker needs a clone of its code")
        if flow.tracker == "alltracker" and flow.check:
            raise ValueError("optical_flow.check is true: allowed: false, alltracker knows what it sees")


def load_params(path: Path = Path("params.yaml"), changes: Mapping[str, Any] = {}) -> Params:
    """Read and check the parameters; `changes`: dotted keys that are not as in the file.

    Raises:
        ValueError: no file, no YAML, or wrong keys: a line for each: key, value, what is allowed.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: run in the project's folder, or copy profiles/paper.yaml there")
    try:
        values = _read_yaml(path)
        for key, value in changes.items():
            _change(values, key.split("."), value)
        return Params.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(f"{path}: {line}" for line in _wrong_keys(error))) from None


def _wrong_keys(error: ValidationError) -> list[str]:
    """A line for each; a list is not wrong beside its items."""
    details = error.errors()
    lists = {detail["loc"][:-1] for detail in details}
    return [
        wrong_key(detail, Params) for detail in details if not detail["loc"] or detail["loc"] not in lists
    ]


def _change(values: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.get(key) if isinstance(values, dict) else None
    if isinstance(values, dict):  # else the check says what is wrong with the file
        values[keys[-1]] = value


def _read_yaml(path: Path) -> Any:
    from ruamel.yaml import YAML  # the reader that DVC uses: 1e-5 is a number and a key given twice an error
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from None
