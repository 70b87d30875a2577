"""Sketches in, a ranking out: who votes, who comes first and last, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from motive.clips.table import clip_path
from motive.stages import attribution, run_stage
from motive.stages.attribution import choose_voters
from motive.store.files import read_table
from motive.store.recipes import Recipe
from motive.store.work import Failure, publish, write_chunk
from testing.sketched_pool import MOTIONS, RECIPE, SAME, ranking, sketch_of, stored, write_sketches
from testing.tiny import small_params, write_split, write_stage

pytestmark = pytest.mark.slow


def test_a_specialist_ranks_its_motion_first_and_a_generalist_hears_all(pool):
    for motion, num_queries in (("roll", 2), ("spin", 1), ("all", 4)):
        run_stage(attribution, small_params(attribution={"motion": motion, "percentile": 60.0}))
        summary = json.loads(Path("data/attribution/attribution.json").read_text())
        assert (summary["num_pool"], summary["num_queries"]) == (9, num_queries)
        best = [pool[one] for one in ranking()["clip_id"][:3]]
        assert motion == "all" or best == [motion] * 3
        assert sum(ranking()["votes"]) == 4 * num_queries  # of nine clips four are above the 60th percentile
        assert ranking()["rank"].tolist() == list(range(9))


def test_the_influence_file_says_which_rows_and_columns_it_has(pool):
    run_stage(attribution, small_params(attribution={"motion": "spin"}))
    with safe_open("data/attribution/influence.safetensors", "pt") as file:
        names, matrix, ok = (
            json.loads(file.metadata()["motive"]),
            file.get_tensor("influence"),
            file.get_tensor("ok"),
        )
    queries = read_table(Path("data/queries/clips/clips.parquet"))
    assert (names["rows"], names["columns"]) == (list(pool), queries["clip_id"].tolist())
    assert names["voters"] == queries.loc[queries["motion"] == "spin", "clip_id"].tolist()
    assert (matrix.dtype, tuple(matrix.shape), bool(ok.all())) == (torch.float32, (9, 4), True)
    column = names["columns"].index(names["voters"][0])
    mean = ranking().set_index("clip_id")["influence"][names["rows"]]
    np.testing.assert_allclose(mean, matrix[:, column], rtol=1e-6)


def test_still_and_failed_clips_come_last_with_the_reason_and_without_influence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = write_split("pool", MOTIONS * 2)
    clips = {one: stored("roll", n) for n, one in enumerate(ids)}
    clips[ids[0]] |= {"sketch": torch.zeros(1, 8), "ok": torch.tensor(False)}
    clips[ids[1]]["sketch"] = clips.pop(ids[2])["sketch"] * float("nan")
    write_chunk(RECIPE, clips, {ids[2]: Failure("not_finite", "the gradient is not finite")})
    publish(RECIPE, ids, 2, Path("data/pool/sketches"))
    write_sketches("queries", ["roll"])
    run_stage(attribution, small_params())
    table = ranking().set_index("clip_id")
    assert table["status"].tolist()[:3] == ["ok"] * 3
    assert table.loc[ids[:3], "status"].tolist() == ["still", "failed", "failed"]
    assert set(table.index[3:]) == set(ids[:3])
    assert all(table.loc[ids[:3], "influence"].isna())
    assert table.loc[ids[2], "reason"] == "sketches: the gradient is not finite"
    assert "nothing moves" in table.loc[ids[0], "reason"]
    assert "not finite" in table.loc[ids[1], "reason"]
    assert not any(table["reason"][:3])


def test_segments_add_up_to_the_ranking_which_names_the_one_that_adds_most(pool):
    of, clips = {}, read_table(Path("data/pool/clips/clips.parquet"))
    for n, (one, motion) in enumerate(zip(clips["clip_id"], clips["motion"], strict=True)):
        clip = stored(motion, n)
        share = torch.tensor([0.2, 0.8] if n % 2 else [0.9, 0.1])[:, None, None]
        of[one] = clip | {"segments": (share * clip["sketch"]).half()}
    params = SAME | {"segments": 2, "time_stride": 4}
    write_stage("pool", Recipe("sketches", 1, params, {"latents": "abc"}), of)
    write_sketches("queries", ["roll", "spin"], Recipe("sketches", 1, params, {"latents": "abc"}))
    run_stage(attribution, small_params())
    parts, table = read_table(Path("data/attribution/segments.parquet")), ranking().set_index("clip_id")
    added: Any = parts.groupby("clip_id")["influence"].sum()
    assert (added - table["influence"]).abs().max() < 2e-3
    assert parts[["start", "end"]].drop_duplicates().to_numpy().tolist() == [[0, 0.1], [0.1, 0.5]]
    for n, one in enumerate(of):
        best = table.loc[one]
        if best["influence"] > 0:
            assert (best["segment_start"], best["segment_end"]) == ((0.1, 0.5) if n % 2 else (0, 0.1))
            assert best["segment_influence"] > 0.7 * best["influence"]


def test_the_same_input_gives_the_same_bytes(pool):
    def written():
        run_stage(attribution, small_params())
        return {path.name: path.read_bytes() for path in Path("data/attribution").iterdir()}

    names = {
        "influence.safetensors",
        "ranking.parquet",
        "segments.parquet",
        "checks.json",
        "confounds.parquet",
        "attribution.json",
        "best_and_worst.parquet",
        "best_and_worst.png",
    }
    first = written()
    assert first.keys() == names
    assert written() == first


def test_best_and_worst_have_their_motion_on_top(pool):
    run_stage(attribution, small_params())
    table = read_table(Path("data/attribution/best_and_worst.parquet"))
    assert list(table.columns) == ["motion", "clip_id", "rank", "influence"]
    for motion, rows in table.groupby("motion"):
        assert [pool[one] for one in rows.sort_values("rank")["clip_id"][:3]] == [motion] * 3
    image = cv2.imread("data/attribution/best_and_worst.png")
    assert image is not None
    assert image.shape[0] > 3 * 64


def test_a_video_that_is_gone_costs_its_image_and_nothing_else(pool, caplog):
    run_stage(attribution, small_params())
    whole = {path.name: path.read_bytes() for path in Path("data/attribution").glob("*.*")}
    clips = read_table(Path("data/queries/clips/clips.parquet"))
    clip_path(next(iter(clips.itertuples()))).unlink()
    caplog.clear()
    run_stage(attribution, small_params())
    left = {path.name: path.read_bytes() for path in Path("data/attribution").glob("*.*")}
    assert "best_and_worst.png is not drawn" in caplog.text
    assert whole.keys() - left.keys() == {"best_and_worst.png"}
    assert all(left[name] == whole[name] for name in left)


@pytest.mark.parametrize("stage", ["optical_flow", "latents"])
def test_what_dvc_does_not_declare_is_not_read(pool, stage):
    failures = Path("data/pool") / stage / "failures.parquet"
    failures.parent.mkdir(parents=True, exist_ok=True)
    failures.write_text("no table")
    run_stage(attribution, small_params())


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (
            Recipe("sketches", 1, {**SAME, "noise_seed": 1}, {"latents": "abc"}),
            "params.noise_seed: None, 1",
        ),
        (Recipe("sketches", 1, SAME, {"latents": "xyz"}), "inputs.latents: abc, xyz"),
        (Recipe("sketches", 2, SAME, {"latents": "abc"}), "version: 1, 2"),
    ],
)
def test_sketches_made_in_different_ways_are_refused(pool, other, differs):
    write_sketches("queries", ["roll"], other)
    with pytest.raises(ValueError, match=differs):
        run_stage(attribution, small_params())


def test_an_unknown_motion_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'jump', which no query shows; it is one of all, roll, spin"):
        choose_voters(["spin", "roll", "", "spin"], "jump")


def test_queries_that_are_not_ok_ask_nothing(pool, caplog):
    ids = write_split("queries", ["roll", "spin"])
    clips = {one: {"sketch": sketch_of("roll", n), "ok": torch.tensor(n == 0)} for n, one in enumerate(ids)}
    write_stage("queries", Recipe("sketches", 1, SAME, {"latents": "abc"}), clips)
    run_stage(attribution, small_params())
    assert json.loads(Path("data/attribution/attribution.json").read_text())["num_queries"] == 1
    assert ids[1] in caplog.text


@pytest.mark.parametrize("split", ["pool", "queries"])
@pytest.mark.parametrize("why", ["still", "failed"])
def test_where_no_clip_is_ok_nothing_is_ranked(pool, split, why):
    ids = read_table(Path("data") / split / "clips/clips.parquet")["clip_id"].tolist()
    still = {"sketch": torch.zeros(1, 8), "ok": torch.tensor(False)}
    shutil.rmtree(".motive/work")
    if why == "still":
        write_chunk(RECIPE, dict.fromkeys(ids, still), {})
    else:
        write_chunk(RECIPE, {}, dict.fromkeys(ids, Failure("unreadable", "masks: torn")))
    publish(RECIPE, ids, 4, Path("data") / split / "sketches")
    with pytest.raises(ValueError, match=f"data/{split}/sketches: no sketch is ok; .* does anything move"):
        run_stage(attribution, small_params())
