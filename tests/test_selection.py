"""The benchmark of the selection on random weights: what it compares, keeps, reports and refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from motive.clips.table import read_clips, write_clips
from motive.params import Params
from motive.stages import evaluation
from motive.store.files import write_table
from motive.store.recipes import Recipe
from testing import subset_comparison as selection
from testing.commands import run_benchmark
from testing.tiny import SHAPE, small_params, write_masks, write_pipeline, write_split, write_stage

pytestmark = pytest.mark.slow

NUM_POOL, NUM_HELDOUT = 8, 5


def write_project() -> list[str]:
    """Pool with latents and ranking, held-out clips with latents and masks, the last still; pool ids."""
    write_pipeline(Path("model"))
    random = torch.Generator().manual_seed(0)
    ids = {}
    for split, count in (("pool", NUM_POOL), ("heldout", NUM_HELDOUT)):
        ids[split] = write_split(split, [f"{split}{n}" for n in range(count)], videos=False)
        clips = {
            one: {
                "latent": torch.randn(SHAPE, generator=random).half(),
                "text": torch.randn(3, 64, generator=random).bfloat16(),
            }
            for one in ids[split]
        }
        write_stage(split, Recipe("latents", 1), clips)
        weights = [torch.rand(SHAPE[1:], generator=random) * (n != NUM_HELDOUT - 1) for n in range(count)]
        write_masks(split, dict(zip(ids[split], weights, strict=True)))
    ranking = {"clip_id": ids["pool"][::-1], "rank": range(NUM_POOL), "votes": 1, "influence": 0.5}
    ranking |= {
        "status": ["ok"] * (NUM_POOL - 2) + ["still", "failed"],
        "reason": [""] * (NUM_POOL - 2) + ["nothing moves", "lost"],
    }
    write_table(Path("data/attribution/ranking.parquet"), pd.DataFrame(ranking))
    Path("data/attribution/attribution.json").write_text('{"num_queries": 3}')
    return ids["pool"]


def params_of(**finetuning) -> Params:
    settings = {"steps": 2, "batch_size": 2, "checkpointing_steps": 1, "learning_rate": 1e-3}
    return small_params(curation={"fraction": 0.3}, finetuning=settings | finetuning)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project, its pool's ids, and what was measured there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        ids = write_project()
        strategies = ["motive", "random", "motion_magnitude"]
        yield ids, selection.measure(params_of(), strategies, range(2), None)


def test_motives_choice_is_the_same_for_each_seed_and_the_random_one_is_not(project):
    ids, _ = project
    motive, *others = [selection.choose(params_of(), "motive", seed) for seed in range(3)]
    assert motive == ids[::-1][:3]  # 0.3 of 8, rounded up
    assert others == [motive] * 2
    drawn = [selection.choose(params_of(), "random", seed) for seed in range(4)]
    assert len({frozenset(clips) for clips in drawn}) > 1
    assert all(len(set(clips)) == 3 for clips in drawn)


def test_chance_draws_from_all_clips_that_could_be_trained_on_or_from_those_that_move(project):
    lost, still, *_ = ids = project[0]
    drawn, moving = (
        {clip_id for seed in range(40) for clip_id in selection.choose(params_of(), strategy, seed)}
        for strategy in ("random", "random_moving")
    )
    assert drawn == {*ids} - {lost}
    assert moving == {*ids} - {lost, still}


def test_a_matched_choice_names_each_motion_as_often_as_motives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project()
    clips = read_clips("pool")
    captions = ["a red ball rolls on a gray floor", "a red ball falls in front of a gray wall"]
    clips["caption"] = captions * (NUM_POOL // 2)
    write_clips("pool", clips)
    caption_of = dict(zip(clips["clip_id"], clips["caption"], strict=True))
    motive = selection.choose(params_of(), "motive", 0)
    drawn = [selection.choose(params_of(), "random_same_motions", seed) for seed in range(6)]
    for clip_ids in drawn:
        assert sorted(caption_of[i] for i in clip_ids) == sorted(caption_of[i] for i in motive)
        assert len(set(clip_ids)) == len(motive)
    assert len({frozenset(clip_ids) for clip_ids in drawn}) > 1


def test_every_model_is_measured_on_the_same_clips_that_move(project):
    _, measured = project
    assert measured.base.shape == (NUM_HELDOUT - 1,)
    assert {losses.shape for losses in measured.tuned.values()} == {(2, NUM_HELDOUT - 1)}
    everything = np.concatenate([measured.base[None], *measured.tuned.values()])
    assert len(np.unique(everything[:, 0])) == 7  # seven models: each training is its own


def test_a_second_run_trains_and_measures_nothing(project, monkeypatch):
    _, measured = project
    monkeypatch.setattr(evaluation, "measure_losses", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("motive.stages.finetuning.training_loss", lambda *_: pytest.fail("trained again"))
    again = selection.measure(params_of(), ["motive", "random"], range(2), None)
    for name in ("motive", "random"):
        np.testing.assert_array_equal(again.tuned[name], measured.tuned[name])


def test_the_numbers_are_those_of_the_losses(project):
    _, measured = project
    numbers = selection.summarise(measured, params_of())
    motive, random = measured.tuned["motive"], measured.tuned["random"]
    assert numbers["motive_minus_random_mean"] == pytest.approx(np.mean(motive - random))
    assert (
        numbers["motive_minus_random_low"]
        <= numbers["motive_minus_random_mean"]
        <= numbers["motive_minus_random_high"]
    )
    assert numbers["motive_improved_fraction"] == np.mean(motive < measured.base)
    assert numbers["motion_magnitude_minus_random_mean"] == pytest.approx(
        np.mean(measured.tuned["motion_magnitude"] - random)
    )
    assert (numbers["num_seeds"], numbers["num_heldout"], numbers["num_selected"]) == (2, 4, 3)
    assert all(isinstance(value, int | float) for value in numbers.values())


def test_what_the_judge_says_is_compared_with_the_base_and_each_other_choice(project):
    _, measured = project
    judged = measured._replace(
        base_physical=np.array([0.1, 0.2, 0.0]),
        tuned_physical={
            "motive": np.array([[0.9, 0.8, 0.7], [0.7, 0.8, 0.9]]),
            "random": np.array([[0.2, 0.3, 0.1], [0.2, 0.3, 0.1]]),
        },
    )
    numbers = selection.summarise(judged, params_of())
    assert numbers["physical_base"] == pytest.approx(0.1)
    assert numbers["physical_motive_minus_base_mean"] == pytest.approx(0.7)
    assert numbers["physical_motive_minus_random_mean"] == pytest.approx(0.6)
    assert 0 < numbers["physical_motive_minus_random_low"] <= numbers["physical_motive_minus_random_high"]


def test_the_judge_must_be_among_the_measures():
    with pytest.raises(ValueError, match=r"evaluation\.measures"):
        selection.measure(params_of(), ["motive", "random"], range(1), None, physical=True)


def test_the_command_writes_flat_json_and_refuses_an_unknown_choice(project, tmp_path):
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe").dump(params_of().model_dump(mode="json"), file)
    options = ["--seeds", "2", "--limit-heldout", "3", "--learning-rate", "0.002"]
    numbers = run_benchmark("selection", tmp_path, *options, cwd=Path.cwd())
    assert (numbers["num_heldout"], numbers["learning_rate"], numbers["steps"]) == (3, 0.002, 2)
    with pytest.raises(AssertionError, match="--also best"):
        run_benchmark("selection", tmp_path, "--also", "best", cwd=Path.cwd())
