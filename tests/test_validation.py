"""`motive validate` on a model of a few thousand weights: what it makes, measures, keeps and says."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from motive.clips.table import read_clips
from motive.maths.denoising import shifted
from motive.params import Params
from motive.stages import clips, latents, masks, optical_flow, run_stage
from motive.validation import retraining
from motive.validation.corrupted import CORRUPTIONS, table_of_copies
from motive.validation.halves import half_subsets
from motive.validation.removal import changes, plan_removals
from motive.validation.report import tables
from motive.validation.retraining import draw, visits
from motive.validation.rows import ROWS
from motive.validation.run import validate
from motive.validation.scores import removal_numbers
from motive.validation.settings import Settings, Training
from motive.validation.truth import add_truth
from motive.video.writing import write_video
from testing.tiny import small_params, write_pipeline

pytestmark = pytest.mark.slow

FRAMES = 5
SIZE = 32
MOTIONS = {"rolls": (4, 0), "falls": (0, 3), "rests": (0, 0)}
TINY = Settings(
    training=Training(steps=2, batch_size=2),
    num_pool=8,
    num_candidates=6,
    num_subsets=4,
    num_repeated=2,
    removal_seeds=(0,),
    num_originals=3,
    num_heldout=2,
    k=2,
    draws=20,
)


def write_folder(split: str, count: int) -> None:
    """A ball that rolls or falls, in the pool also rests, over noise; and what is true of it."""
    metadata = []
    labels = []
    for n in range(count):
        motion = list(MOTIONS)[n % (3 if split == "pool" else 2)]
        write_ball(Path("videos") / split / f"{n}.mp4", n, motion)
        row = {"file_name": f"{n}.mp4", "caption": f"a red ball {motion}"}
        metadata.append(row if split == "pool" else row | {"motion": motion})
        kind = {"kind": "static", "motion": None} if motion == "rests" else {"kind": motion, "motion": motion}
        labels.append({"file_name": f"{n}.mp4", **kind, "looks_of_query": "0.mp4" if n == 1 else None})
    write_lines(Path("videos") / split / "metadata.jsonl", metadata)
    write_lines(Path("videos") / split / "truth/labels.jsonl", labels)


def write_ball(path: Path, n: int, motion: str) -> None:
    across, down = MOTIONS[motion]
    still = np.random.default_rng(n).integers(60, 90, (1, SIZE, SIZE, 3), np.uint8)
    frames = still.repeat(FRAMES, 0)
    for f in range(FRAMES):
        frames[f, 4 + down * f :][:10, 2 + across * f :][:, :10] = (200, 20 * n % 200, 90)
    write_video(path, frames, 10.0)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def params_of() -> Params:
    source = {split: f"videos/{split}" for split in ("pool", "queries", "heldout")}
    return small_params(clips={"source": source}, sketches={"dim": 64}, evaluation={"clips": "heldout"})


def forget_models() -> None:
    for cached in (latents.load, retraining._base, retraining._clips):
        cached.cache_clear()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """A validated project: the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        write_pipeline(Path("model").absolute())
        for split, count in (("pool", 9), ("queries", 4), ("heldout", 3)):
            write_folder(split, count)
            for stage in (clips, optical_flow, masks, latents):
                run_stage(stage, params_of(), split)
        yield validate(params_of(), TINY)
    forget_models()


# ---- the whole of it


def test_every_row_has_its_numbers_and_their_intervals(project):
    written = json.loads(Path("data/validation/validation.json").read_text())
    assert written == json.loads(json.dumps(project))
    for name in ROWS:
        for key in ("lds", "lds_plain", "lds_gain", "corrupted_auc", "precision", "precision_clean"):
            value, low, high = (written[f"{key}_{name}{end}"] for end in ("", "_low", "_high"))
            assert np.isfinite([value, low, high]).all()
            assert low <= high
        assert all(f"corrupted_auc_{corruption}_{name}" in written for corruption in list(CORRUPTIONS)[1:])
    assert written["lds_gain_paper"] == 0


def test_removals_are_measured_on_queries_and_heldout_clips(project):
    for row in TINY.removed_by:
        for what in ("drop_top", "drop_bottom", "keep_top"):
            assert f"removal_{row}_{what}_queries" in project
            assert f"removal_{row}_{what}_heldout" in project
    for name in ("random_drop_queries", "random_keep_heldout", "full_queries"):
        assert f"removal_{name}" in project


def test_it_is_shown_in_tables_and_a_chart(project):
    lds, copies, truth, removals = tables(project)
    assert lds.row_count == copies.row_count == truth.row_count == len(ROWS)
    assert removals.row_count == 3 + 3 * len(TINY.removed_by)
    assert Path("data/validation/validation.png").stat().st_size > 1000


def test_a_second_run_trains_nothing_and_says_the_same(project, monkeypatch):
    def train(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(retraining, "train", train)
    assert validate(params_of(), TINY) == project


# ---- its pieces


def test_each_original_has_all_copies_as_files_of_their_own(project):
    table = table_of_copies("validation/corrupted")
    copies = read_clips("validation/corrupted")
    assert len(table) == TINY.num_originals
    assert list(table.columns) == list(CORRUPTIONS)
    for original, places in table.iterrows():
        rows = copies.iloc[places.to_numpy()]
        assert [Path(video).stem for video in rows["video"]] == [original] * len(CORRUPTIONS)
        assert rows["caption"].nunique() == 1
        assert rows["sha256"].nunique() == len(CORRUPTIONS)


def test_corruptions_keep_the_frames_and_spoil_their_order():
    frames = np.arange(13, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    for seed in range(20):
        order = {
            name: corrupt(frames, np.random.default_rng(seed))[:, 0, 0, 0].astype(int)
            for name, corrupt in CORRUPTIONS.items()
        }
        assert order["original"].tolist() == list(range(13))
        assert order["reversed"].tolist() == list(range(13))[::-1]
        assert set(order["frozen"]) == {6}
        assert sorted(order["jittered"]) == sorted(order["teleported"]) == list(range(13))
        assert np.abs(order["jittered"] - np.arange(13)).max() <= 4
        assert (np.abs(np.diff(order["teleported"])) > 1).sum() >= 3


def test_true_examples_are_those_of_the_kind_of_their_motion(project):
    pool = add_truth(read_clips("pool"))
    motions = [caption.split()[-1] for caption in pool["caption"]]
    assert pool["shows"].tolist() == ["" if motion == "rests" else motion for motion in motions]
    assert pool["alike"].tolist().count(True) == 1


def test_without_labels_a_clip_shows_its_own_motion(project):
    table = read_clips("pool").assign(source="elsewhere", motion="spin")
    assert set(add_truth(table)["shows"]) == {"spin"}
    assert not add_truth(table)["alike"].to_numpy().any()


def test_two_runs_differ_in_the_clips_they_see_and_in_nothing_else():
    ids = [f"clip{n}" for n in range(10)]
    every = list(islice(visits(ids, set(ids), 0), 40))
    some = list(islice(visits(ids, set(ids[::2]), 0), 20))
    assert some == [(row, visit) for row, visit in every if row % 2 == 0]
    for visit in range(4):
        assert sorted(row for row, n in every if n == visit) == list(range(10))


def test_each_clip_is_seen_once_at_each_noise_level_under_noises_of_its_own():
    noise = (4, (2, 3, 4, 4), 3.0)  # levels, shape, shift
    drawn = {(row, visit): draw(0, row, visit, *noise) for row in range(6) for visit in range(4)}
    for row in range(6):
        assert len({float(drawn[row, visit][0]) for visit in range(4)}) == 4
    assert len({float(eps.sum()) for _, eps in drawn.values()}) == len(drawn)
    assert torch.equal(draw(0, 5, 3, *noise)[1], drawn[5, 3][1])
    assert not torch.equal(draw(1, 5, 3, *noise)[1], drawn[5, 3][1])


def test_the_noise_levels_are_those_of_finetuning():
    many = 1000
    ours = torch.stack([draw(0, level, 0, many, (1, 1, 1, 1), 3.0)[0] for level in range(many)])
    theirs = shifted(torch.sigmoid(torch.randn(100_000, generator=torch.Generator().manual_seed(0))), 3.0)
    for share in (0.1, 0.5, 0.9):
        assert ours.quantile(share) == pytest.approx(theirs.quantile(share).item(), abs=0.01)


def test_halves_hold_half_of_the_clips():
    halves = half_subsets(11, 100, 0)
    assert (halves.sum(1) == 5).all()
    assert halves.mean(0) == pytest.approx(5 / 11, abs=0.2)


def test_removal_drops_and_keeps_the_ends_of_an_order():
    order = ["3", "1", "4", "0", "2"]
    removals = {r.name: r for r in plan_removals({"row": order}, 0.4, (7, 8))}
    kept = {name: set(r.runs[0].clip_ids) for name, r in removals.items()}
    assert kept["full"] == set(order)
    assert kept["row_drop_top"] == {"4", "0", "2"}
    assert kept["row_drop_bottom"] == {"3", "1", "4"}
    assert kept["row_keep_top"] == {"3", "1"}
    assert len(kept["random_drop"]) == 3
    assert len(kept["random_keep"]) == 2
    assert [run.seed for run in removals["row_drop_top"].runs] == [7, 8]


def test_a_change_is_against_the_full_run_of_the_same_seed():
    removal = plan_removals({"row": ["a", "b"]}, 0.5, (0, 1))[-1]
    losses = {run.name: np.array([2.0 + run.seed, 1.0]) for run in removal.runs}
    losses |= {run.name: np.array([1.0, 1.0 + run.seed]) for run in removal.against}
    assert changes(removal, losses).tolist() == [[1, 0], [2, -1]]


def test_a_gain_is_the_change_beyond_that_by_the_paper_seed_by_seed():
    removals = plan_removals({"paper": ["a", "b", "c"], "row": ["b", "a", "c"]}, 1 / 3, (0, 1))
    worse: dict = {("b", "c"): 1.0, ("a", "c"): 3.0}  # without a, and without b
    losses = {
        run.name: np.array([10.0 * run.seed, 10.0 * run.seed]) + worse.get(run.clip_ids, 0.0)
        for removal in removals
        for run in (*removal.runs, *removal.against)
    }
    numbers = removal_numbers(removals, {"queries": losses})
    assert numbers["removal_row_drop_top_queries"] == 3
    assert numbers["removal_gain_row_drop_top_queries"] == 2
    assert numbers["removal_gain_row_drop_top_queries_low"] == 2  # both seeds and clips say the same
    assert not any(key.startswith("removal_gain_paper") for key in numbers)
