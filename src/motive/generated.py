"""Videos that a model generates of prompts: made, kept in the work store, measured, written, drawn."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motive.images.sheets import Strip, spread, strip_sheet
from motive.maths.seeds import seed_of
from motive.maths.video_metrics import motion_metrics
from motive.measures import load_measure, measure_video
from motive.models import backbones
from motive.models import folder as model_folder
from motive.models.first_frame import Condition
from motive.models.tuned import Model, sampler
from motive.params import Clips, Evaluation
from motive.store.jobs import Job
from motive.store.layout import stage_folder
from motive.store.recipes import Recipe
from motive.store.shards import locate, read_clip_tensors, read_manifest
from motive.store.work import done, write_chunk
from motive.trackers.interface import dis
from motive.video.encoded import decoded, encoded
from motive.video.frames import evenly_spaced
from motive.video.reading import read_frames

VIDEOS_VERSION = 1  # raise one when the meaning of its results changes
MOTION_VERSION = 1
PRESET = "medium"  # of DIS: it belongs to the meaning of the motion metrics
NUM_DRAWN = 10  # prompts on the contact sheet
NUM_FRAMES = 6  # of each of their videos

Row = dict[str, Any]


@dataclass(frozen=True)
class Generation:
    """What a worker needs to generate videos and to measure their motion."""

    videos: Recipe
    motion: Recipe
    model: Model
    prompts: dict[str, str]  # by id
    clips: Clips
    evaluation: Evaluation
    max_tokens: int
    condition: Condition

    @property
    def size(self) -> tuple[int, int, int]:
        """(frames, height, width) of each video."""
        return self.clips.num_frames, self.clips.height, self.clips.width


def make_generation(
    model: Model,
    prompts: dict[str, str],
    clips: Clips,
    evaluation: Evaluation,
    max_tokens: int,
    condition: Condition,
) -> Generation:
    """The recipes of one video a prompt, of the clips' size; from a first frame, ids of prompts are clip ids.

    Raises:
        ValueError: the model would generate another size.
    """
    model_folder.latent_shape(model.path, clips.num_frames, clips.height, clips.width)
    settings = {
        **clips.model_dump(include={"num_frames", "height", "width", "fps"}),
        **evaluation.model_dump(include={"num_inference_steps", "guidance_scale", "seed"}),
        "max_tokens": max_tokens,
        "dtype": model.dtype,
        "what": "videos",
    }
    inputs = {"model": model.digest}
    if condition == "first_frame":
        settings["condition"] = condition
        inputs["latents"] = read_manifest(stage_folder("latents", evaluation.clips))["digest"]
    rest = model_folder.fingerprint(model.path, "vae", "text_encoder", "tokenizer", "scheduler")
    videos = Recipe("evaluation", VIDEOS_VERSION, settings, inputs | {"rest": rest})
    measures = [load_measure(name) for name in evaluation.measures]
    measured = {
        "preset": PRESET,
        "what": "motion",
        "measures": {measure.name: measure.version for measure in measures},
    }
    return Generation(
        videos=videos,
        motion=Recipe("evaluation", MOTION_VERSION, measured, {"videos": videos.digest}),
        model=model,
        prompts=prompts,
        clips=clips,
        evaluation=evaluation,
        max_tokens=max_tokens,
        condition=condition,
    )


# ---- made and measured


def video_job(generation: Generation) -> Job:
    """For each prompt `mp4`, the bytes of the file; each video is a chunk of its own, for each costs much."""
    return Job(
        label=f"evaluation: videos of {generation.model.name}",
        recipe=generation.videos,
        ids=list(generation.prompts),
        size=1,
        make=partial(make_videos, generation),
    )


def motion_job(generation: Generation, shard_size: int) -> Job:
    """For each video a number a metric; mostly done before, since a video is measured when it is made."""
    return Job(
        label=f"evaluation: motion of {generation.model.name}",
        recipe=generation.motion,
        ids=list(generation.prompts),
        size=shard_size,
        make=partial(measure_motion, generation),
    )


def make_videos(generation: Generation, ids: list[str]) -> int:
    """Generate, measure and keep some videos, each from its own prompt's noise; returns their number."""
    evaluation = generation.evaluation
    pipeline = sampler(generation.model, evaluation.offload, generation.condition)
    first_frames = read_first_frames(generation, ids, pipeline.vae)
    results = {}
    for prompt_id in ids:
        prompt = generation.prompts[prompt_id]
        frames = backbones.generate(
            pipeline,
            prompt,
            size=generation.size,
            max_tokens=generation.max_tokens,
            steps=evaluation.num_inference_steps,
            guidance=evaluation.guidance_scale,
            seed=seed_of("video", evaluation.seed, prompt if first_frames is None else prompt_id),
            fps=generation.clips.fps,
            first_frame=None if first_frames is None else first_frames[prompt_id],
        )
        results[prompt_id] = {"mp4": encoded(frames, generation.clips.fps)}
    write_chunk(generation.videos, results, {})
    return measure_motion(generation, ids)


def read_first_frames(generation: Generation, ids: list[str], vae: Any) -> dict[str, np.ndarray] | None:
    """The first frames u8 [H,W,3] of held-out clips as the VAE has kept them; None where text is all."""
    if generation.condition == "text":
        return None
    kept = locate(stage_folder("latents", generation.evaluation.clips))
    clips = read_clip_tensors(kept, ids)
    return {clip_id: backbones.decode_video(vae, clip["latent"][:, :1])[0] for clip_id, clip in clips}


def measure_motion(generation: Generation, ids: list[str]) -> int:
    """Measure and keep the motion of some videos, as a player shows them; returns their number."""
    fps = generation.clips.fps
    measures = [load_measure(name) for name in generation.evaluation.measures]
    results = {}
    for prompt_id, tensors in read_clip_tensors(done(generation.videos), ids):
        frames = decoded(tensors["mp4"], generation.size, fps)
        metrics = motion_metrics(frames, fps, partial(dis, preset=PRESET))
        metrics |= measure_video(measures, frames, generation.prompts[prompt_id], fps)
        results[prompt_id] = {name: torch.tensor(value) for name, value in metrics.items()}
    write_chunk(generation.motion, results, {})
    return len(ids)


# ---- written and drawn


def write_videos(
    folder: Path, generation: Generation, slugs: Sequence[str], motions: dict[str, str]
) -> list[Row]:
    """Write the files; a row a video: `model`, `index`, `prompt`, `motion` (of the clip that gave its first
    frame, else ""), `video` (path), all that was measured."""
    videos = dict(read_clip_tensors(done(generation.videos), list(generation.prompts)))
    motion = dict(read_clip_tensors(done(generation.motion), list(generation.prompts)))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (prompt_id, prompt) in enumerate(generation.prompts.items()):
        path = folder / f"{index:02d}-{slugs[index]}.mp4"
        path.write_bytes(videos[prompt_id]["mp4"].numpy().tobytes())
        rows.append(
            {
                "model": generation.model.name,
                "index": index,
                "prompt": prompt,
                "motion": motions.get(prompt_id, ""),
                "video": str(path),
                **{name: float(value) for name, value in sorted(motion[prompt_id].items())},
            }
        )
    return rows


def draw_samples(rows: list[Row], clips: Clips) -> np.ndarray:
    """Contact sheet u8 [H,W,3]: a few prompts, evenly from the list, with what each model made of them."""
    indexes = evenly_spaced(rows[-1]["index"] + 1, NUM_DRAWN)
    sheet: dict[str, list[Strip]] = defaultdict(list)
    for row in rows:
        if row["index"] in indexes:
            sheet[f"{row['index']:02d}"].append(_strip(row, clips))
    return strip_sheet(["base", "tuned"], list(sheet.items()))


def _strip(row: Row, clips: Clips) -> Strip:
    """A few frames of a generated video, with its prompt and how much moves."""
    size = (clips.height, clips.width)
    frames = read_frames(Path(row["video"]), clips.num_frames, clips.fps, *size, "window")
    words = f"{row['prompt']}\nmoving {row['moving_fraction']:.0%}, mean {row['mean_motion']:.1f} px/s"
    return Strip(spread(frames, NUM_FRAMES), words)
