"""A model's folder in diffusers layout, or a hub id: what can be known of it without loading weights."""

import json
from pathlib import Path
from typing import Any

from motive.models import ltx, wan
from motive.models.experts import NAMES
from motive.models.families import family_named, foreign, pipeline_names
from motive.models.first_frame import Condition, Kind
from motive.store.hashes import file_digest, text_digest


def local_folder(path: str) -> Path:
    """The folder of a model: itself, or the local copy of a hub id, fetched if it must be.

    Raises:
        ValueError: it is neither.
    """
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Not what lies beside the folders: of LTX-Video that would be all its versions.
        return Path(snapshot_download(path, allow_patterns=["model_index.json", "*/*"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ValueError(
            f"model.path: {path} is no folder, and no model of that name was found: {error}"
        ) from error


def fingerprint(path: str, *names: str) -> str:
    """A hash of every byte of these components of a model, by the names of their folders.

    A second expert belongs to the transformer, and so does where it begins.

    Raises:
        ValueError: one is missing.
    """
    lines = [foreign_origin(path)]  # empty for ours
    if NAMES[0] in names and (local_folder(path) / NAMES[1]).is_dir():
        names = (*names, NAMES[1])
        lines.append(f"boundary_ratio {boundary_ratio(path)}")
    for name in names:
        folder = local_folder(path) / name
        if not folder.is_dir():
            raise ValueError(f"model.path: {path} is not a diffusers folder: {folder} is missing")
        files = sorted(file for file in folder.iterdir() if file.is_file())
        lines += [f"{name}/{file.name} {file_digest(file)}\n" for file in files]
    return text_digest("".join(lines))


def _json(path: str, name: str) -> dict[str, Any]:
    file = local_folder(path) / name
    if not file.is_file():
        raise ValueError(f"model.path: {path} is not a diffusers folder: {file} is missing")
    return json.loads(file.read_text())


def read_index(path: str) -> dict[str, Any]:
    """model_index.json.

    Raises:
        ValueError: there is none, or it is of a pipeline that we don't know.
    """
    index = _json(path, "model_index.json")
    if index["_class_name"] not in pipeline_names():
        supported = ", ".join(pipeline_names())
        raise ValueError(f"model.path: {path} is for {index['_class_name']}; supported: {supported}")
    return index


def check_tokens(path: str, max_tokens: int) -> None:
    """Refuse a length of texts at which diffusers would take text for image.

    Raises:
        ValueError: the model attends to an image as well, and to texts of another length alone.
    """
    attends = _json(path, "transformer/config.json").get("image_dim") is not None
    if attends and max_tokens != wan.TOKENS_BESIDE_IMAGE:
        raise ValueError(
            f"latents.max_tokens: {max_tokens} does not fit {path}, which attends to an image and "
            f"{wan.TOKENS_BESIDE_IMAGE} tokens of text; use {wan.TOKENS_BESIDE_IMAGE}"
        )


def image_encoder(path: str) -> list[str]:
    """The folders of what embeds a first frame, if the model has them."""
    names = ["image_encoder", "image_processor"]
    return names if (local_folder(path) / names[0]).is_dir() else []


def boundary_ratio(path: str) -> float:
    """The noise level at which the second of two transformers takes over.

    Raises:
        ValueError: model_index.json does not say.
    """
    ratio = read_index(path).get("boundary_ratio")
    if ratio is None:
        raise ValueError(
            f"model.path: {path} has {NAMES[1]}/, but its model_index.json no boundary_ratio: add the noise "
            "level from which on the first transformer is used, e.g. 0.875"
        )
    return ratio


def first_frame_kind(path: str, condition: Condition) -> Kind | None:
    """How the model is given a clip's first frame; None: it makes videos from text alone.

    Raises:
        ValueError: the model is not made for this condition.
    """
    index = read_index(path)
    family = family_named(index["_class_name"])
    assert family is not None, "read_index refuses the others"
    configs = (_json(path, f"{name}/config.json") for name in ("vae", "transformer"))
    kind = family.first_frame_kind(index, *configs)
    if condition == "first_frame" and kind is None:
        raise ValueError(
            f"model.condition: {path} makes videos from text alone; use text, or a model that takes a first "
            "frame, e.g. Wan2.2-TI2V-5B or a Wan I2V"
        )
    if condition == "text" and kind == "channels":
        raise ValueError(f"model.condition: {path} needs a first frame; use first_frame")
    return kind if condition == "first_frame" else None


def read_strides(path: str) -> tuple[int, int]:
    """How many frames and pixels one latent position spans: (time, space), read without loading weights."""
    vae = _json(path, "vae/config.json")
    other = foreign(foreign_pipeline(path))
    if other:
        return other.load().strides(vae)
    return (ltx if "spatio_temporal_scaling" in vae else wan).strides(vae)


def foreign_pipeline(path: str) -> str:
    """The model's pipeline if another package brings its family; else empty."""
    index = local_folder(path) / "model_index.json"
    pipeline = json.loads(index.read_text()).get("_class_name", "") if index.is_file() else ""
    return pipeline if foreign(pipeline) else ""


def foreign_origin(path: str) -> str:
    """Package and version of the model's family if another package brings it; else empty."""
    family = foreign(foreign_pipeline(path))
    return family.origin if family else ""


def latent_shape(path: str, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """[C,T,h,w] of a clip's latent.

    Raises:
        ValueError: the model is of no known family, or frames or sizes don't fit it.
    """
    family = family_named(read_index(path)["_class_name"])
    assert family is not None, "read_index refuses the others"
    strides = read_strides(path)
    vae = _json(path, "vae/config.json")
    channels, *multiples = family.fitting(vae, _json(path, "transformer/config.json"), strides)
    _check_fit(path, num_frames, {"height": height, "width": width}, multiples)
    time, space = strides
    return channels, 1 + (num_frames - 1) // time, height // space, width // space


def _check_fit(path: str, num_frames: int, sides: dict[str, int], multiples: list[int]) -> None:
    """Refuse what the model does not take; `multiples`: of frames, less the first, and of both sides."""
    frames = multiples[0]
    if (num_frames - 1) % frames:
        better = max(num_frames // frames, 1) * frames + 1
        raise ValueError(
            f"clips.num_frames: {num_frames} does not fit {path}; use {frames}n+1, e.g. {better}"
        )
    for name, multiple in zip(sides, multiples[1:], strict=True):
        if sides[name] % multiple:
            raise ValueError(f"clips.{name}: {sides[name]} does not fit {path}; use a multiple of {multiple}")
