"""Can fine-tuning show what it must? The same training on clips of true and of false physics.

    python benchmarks/positive_control.py --json positive_control.json

Draws twins: a true clip of each motion and a false one with the same looks, caption and beginning. Seed s
trains the model of params.yaml on the true ones, and then on the false ones, with everything else equal. Each
model is measured on other true clips: its motion loss, and what the world's judge says of the videos that it
makes of them. If the two do not differ, no way of choosing clips can be told from another here.

What is done is kept in .motive/positive_control: a second run goes on where the first stopped.
"""

import json
import logging
import os
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from motive.clips.table import read_clips
from motive.maths.statistics import crossed_bootstrap_interval
from motive.models.tuned import Model, base_model, tuned_model
from motive.params import Params, load_params
from motive.stages import clips, finetuning, latents, masks, optical_flow, run_stage
from motive.store.files import write_bytes, write_json
from motive.terminal import log_to_terminal
from motive.video.writing import write_video
from testing.measuring import JsonFile
from testing.subset_comparison import JUDGE, losses_of, moving_heldout, videos_of
from toyworld import FAKES, FALSE_LAWS, MOTIONS, draw_clip, sample_scene

WORK = Path(".motive/positive_control")
SIDES = ("true", "false")
SEED = 6_000_006
RATE = 24  # frames a second of what is drawn
SECONDS = 1.6

log = logging.getLogger("motive")


class Outcome(NamedTuple):
    """What was measured of a model: the loss on each clip, `physical` and `holds` of each video."""

    loss: np.ndarray
    physical: np.ndarray
    holds: np.ndarray


def main(
    json_file: JsonFile = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each side.")] = 5,
    clips_per_motion: Annotated[int, typer.Option(min=1, help="Clips of each side to train on.")] = 10,
    heldout_per_motion: Annotated[int, typer.Option(min=1, help="Clips to measure on.")] = 5,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of finetuning.learning_rate.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of finetuning.steps.")] = None,
    shift: Annotated[float | None, typer.Option(help="Instead of finetuning.shift.")] = None,
) -> None:
    """Fine-tune on true and on false clips of the same motions, and compare the models."""
    log_to_terminal()
    wishes = {"learning_rate": learning_rate, "steps": steps, "shift": shift}
    params = adapted(load_params(), wishes, 10 * heldout_per_motion)
    json_file = json_file and json_file.absolute()
    work = WORK / f"{clips_per_motion}-{heldout_per_motion}"
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    draw("pool", clips_per_motion, SIDES)
    draw("heldout", heldout_per_motion, SIDES[:1])
    for split in ("pool", "heldout"):
        run_stage(clips, params, split)
        run_stage(latents, params, split)
    for stage in (optical_flow, masks):
        run_stage(stage, params, "heldout")

    base = base_model(params.model.path, params.model.dtype, params.model.device)
    outcomes = {"base": stacked([measured(base, params)])}
    runs = list(product(SIDES, range(seeds)))
    with get_context("spawn").Pool(params.workers) as pool:  # its processes end when this one is killed
        models = dict(zip(runs, pool.map(partial(train, params=params), runs, chunksize=1), strict=True))
    for side in SIDES:
        outcomes[side] = stacked([measured(models[side, seed], params) for seed in range(seeds)])
    numbers = summarise(outcomes, params)
    print(json.dumps(numbers, indent=2))
    if json_file:
        write_json(json_file, numbers)


def adapted(params: Params, wishes: dict[str, Any], num_videos: int) -> Params:
    """The project's parameters on the twins, measured by the judge."""
    values = params.model_dump()
    values["model"]["path"] = str(Path(params.model.path).absolute())
    values["evaluation"]["prompts"] = str(Path(params.evaluation.prompts).absolute())
    values["clips"]["source"] = {"pool": "twins/pool", "queries": "twins/pool", "heldout": "twins/heldout"}
    values["clips"]["duplicates"] = "keep"
    values["finetuning"] |= {key: value for key, value in wishes.items() if value is not None}
    values["evaluation"] |= {"measures": (JUDGE,), "first_frames": num_videos, "clips": "heldout"}
    return Params.model_validate(values)


def draw(split: str, per_motion: int, sides: tuple[str, ...]) -> None:
    """Draw clips: of a true and a false one of one number all is equal but the law."""
    folder = Path("twins") / split
    rows = []
    for index in range(per_motion * len(MOTIONS)):
        motion = MOTIONS[index % len(MOTIONS)]
        laws = [law for law in FALSE_LAWS if motion in FAKES[law]]
        for side in sides:
            seed = [SEED, len(split), index]
            kind = motion if side == "true" else laws[index // len(MOTIONS) % len(laws)]
            scene = sample_scene(np.random.default_rng(seed), kind, motion)
            name = f"{side}_{index:03d}.mp4"
            if not (folder / name).is_file():
                write_video(folder / name, draw_clip(scene, round(RATE * SECONDS), RATE).frames, float(RATE))
            rows.append({"file_name": name, "caption": scene.caption, "motion": motion})
    write_bytes(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def train(run: tuple[str, int], params: Params) -> Model:
    """The model fine-tuned on one side's clips with a seed, in a process of its own."""
    log_to_terminal()
    side, seed = run
    log.info("positive control: training on %s clips, seed %d", side, seed)
    f = params.finetuning.model_copy(update={"seed": seed})
    out = Path(f"models/{side}-{seed}-{f.steps}-{f.learning_rate:g}-{f.shift:g}")
    table = read_clips("pool")
    of_side = table["video"].map(lambda video: Path(video).name.startswith(side))
    finetuning.train(
        table["clip_id"][of_side].tolist(),
        out,
        finetuning=f,
        model=params.model,
        max_tokens=params.latents.max_tokens,
        fps=params.clips.fps,
    )
    model = tuned_model(params.model.path, params.model.dtype, params.model.device, str(out))
    return replace(model, name=out.name)


def measured(model: Model, params: Params) -> Outcome:
    """What a model makes of the held-out clips."""
    videos = videos_of(model, params)
    losses = losses_of(model, moving_heldout("heldout"), params)
    return Outcome(losses, videos["physical"], videos["holds"])


def stacked(outcomes: list[Outcome]) -> Outcome:
    """The outcomes of several seeds: [seeds, clips] each."""
    return Outcome(*(np.stack(values) for values in zip(*outcomes, strict=True)))


def summarise(outcomes: dict[str, Outcome], params: Params) -> dict[str, float]:
    """Means of each side; true minus false with its 95 % interval over seeds and clips, and its spread."""
    numbers: dict[str, float] = {}
    for name, outcome in outcomes.items():
        for key, values in outcome._asdict().items():
            numbers[f"{key}_{name}"] = float(values.mean())
    for key in Outcome._fields:
        true, false = (getattr(outcomes[side], key) for side in SIDES)
        difference = true - false
        low, high = crossed_bootstrap_interval(difference, params.evaluation.seed)
        numbers[f"{key}_true_minus_false"] = float(difference.mean())
        numbers[f"{key}_true_minus_false_low"] = low
        numbers[f"{key}_true_minus_false_high"] = high
        # How much the mean of one side differs from seed to seed.
        spread = np.mean([side.mean(1).std(ddof=1) for side in (true, false)]) if len(true) > 1 else np.nan
        numbers[f"{key}_std_of_seeds"] = float(spread)
    f = params.finetuning
    return numbers | {
        "num_seeds": len(outcomes["true"].loss),
        "num_clips": outcomes["true"].loss.shape[1],
        "learning_rate": f.learning_rate,
        "steps": f.steps,
        "batch_size": f.batch_size,
        "shift": f.shift,
    }


if __name__ == "__main__":
    typer.run(main)
