"""Models in the registry: which one is the champion, and how it is loaded back."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from motive.models.lora import add_lora, save_lora
from motive.params import load_params
from motive.recording.champion import Measured, better
from motive.stages import record
from testing.recorded_project import client_of, losses_per_clip, write, write_project
from testing.tiny import build_transformer, write_pipeline

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("new", "old", "wins", "why"),
    [
        (Measured(losses_per_clip(0.02), {}), None, True, "the first that improves"),
        (Measured(losses_per_clip(0.0), {}), None, False, "does not improve on its base"),
        (
            Measured(losses_per_clip(0.04), {}),
            Measured(losses_per_clip(0.02), {}),
            True,
            "better than the champion, version 7",
        ),
        (Measured(losses_per_clip(0.02), {}), Measured(losses_per_clip(0.04), {}), False, "not better"),
        (Measured(losses_per_clip(0.02), {}), Measured(losses_per_clip(0.02), {}), False, "not better"),
        (Measured(losses_per_clip(0.04), {}), Measured(losses_per_clip(0.02, "d"), {}), False, "other clips"),
        (
            Measured(losses_per_clip(0.04), {"sigmas": [0.5]}),
            Measured(losses_per_clip(0.02), {}),
            False,
            "another way",
        ),
    ],
)
def test_the_champion_moves_only_if_the_evaluation_says_so(new, old, wins, why):
    assert better(new, old, "7", "motive-tiny")[0] == wins
    assert why in better(new, old, "7", "motive-tiny")[1]


def test_models_are_registered_once_and_the_champion_is_the_best_yet(finished):
    client = client_of(finished)
    name = "motive-tiny-wan"
    for strategy, shift in (("motive", 0.02), ("random", 0.01), ("full", 0.05)):
        write_project(finished, strategy)
        write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(shift))
        for _ in range(2):
            record.run(load_params())
    versions = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda each: int(each.version))
    assert [str(version.version) for version in versions] == ["1", "2", "3"]
    assert [str(version.description).partition(":")[0] for version in versions] == [
        "the first that improves on its base",
        "not better than the champion, version 1",
        "better than the champion, version 1",
    ]
    assert client.get_registered_model(name).aliases["champion"] in ("3", 3)


@pytest.mark.parametrize(
    "step", ["create_model_version", "set_registered_model_alias", "set_model_version_tag"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_record_leaves_one_version_of_a_living_run(finished, monkeypatch, step, when):
    from mlflow import MlflowClient

    real = getattr(MlflowClient, step)

    def killed(*arguments, **options):
        if when == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(0.02))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, killed)
        with pytest.raises(KeyboardInterrupt):
            record.run(load_params())
    for _ in range(2):
        record.run(load_params())
    client = client_of(finished)
    [version] = client.search_model_versions("name = 'motive-tiny-wan'")
    assert client.get_model_version_by_alias("motive-tiny-wan", "champion").version == version.version
    run = client.get_run(str(version.run_id))
    assert (run.info.lifecycle_stage, run.info.status) == ("active", "FINISHED")


@pytest.mark.parametrize("lost", ["evaluation", "run"])
def test_a_champion_whose_results_are_gone_is_named_and_gives_way(finished, caplog, lost):
    client = client_of(finished)
    caplog.set_level("INFO")
    for strategy in ("motive", "random"):
        write_project(finished, strategy)
        write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(0.02))
        record.run(load_params())
        if strategy == "motive":
            champion = client.get_model_version_by_alias("motive-tiny-wan", "champion")
            artifacts = Path(
                str(client.get_run(str(champion.run_id)).info.artifact_uri).removeprefix("file://")
            )
            shutil.rmtree(artifacts / "evaluation")
            if lost == "run":
                client.delete_run(str(champion.run_id))
                store = f"sqlite:///{finished / 'mlflow.db'}"
                command = ["mlflow", "gc", "--backend-store-uri", store, "--tracking-uri", store]
                subprocess.run([sys.executable, "-m", *command], check=True)
    new = client.get_model_version_by_alias("motive-tiny-wan", "champion")
    assert new.version != champion.version
    gone = f"the results of the champion, version {champion.version}, are gone; "
    assert str(new.description).startswith(gone)
    assert "are gone" in caplog.text


def load_back(finished: Path, monkeypatch) -> str:
    """Record what data/finetuning holds, and get it as README's lines do."""
    from mlflow.artifacts import download_artifacts

    write(finished / "data/evaluation/per_clip.parquet", losses_per_clip(0.02))
    record.run(load_params())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished / 'mlflow.db'}")
    return download_artifacts("models:/motive-tiny-wan@champion")


def test_a_champion_is_loaded_back_by_one_line(finished, monkeypatch):
    import torch
    from diffusers import WanTransformer3DModel  # type: ignore[attr-defined]

    built = build_transformer(seed=3)
    built.save_pretrained("data/finetuning/transformer")
    folder = load_back(finished, monkeypatch)
    loaded = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in built.state_dict().items())


def test_a_champion_that_is_a_lora_is_loaded_back_by_one_line(finished, monkeypatch):
    import torch
    from diffusers import WanPipeline  # type: ignore[attr-defined]
    from peft.utils import get_peft_model_state_dict

    shutil.rmtree("data/finetuning/transformer")
    write_pipeline(finished / "model")
    trained = WanPipeline.from_pretrained(finished / "model").transformer
    add_lora(trained, rank=2, seed=0)
    for n, weight in enumerate(p for p in trained.parameters() if p.requires_grad):
        torch.nn.init.normal_(weight, std=1 + n)
    save_lora(trained, Path("data/finetuning"))
    pipe = WanPipeline.from_pretrained(finished / "model")
    pipe.load_lora_weights(load_back(finished, monkeypatch))
    expected = get_peft_model_state_dict(trained)
    loaded = get_peft_model_state_dict(pipe.transformer, adapter_name="default_0")
    assert expected.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in expected.items())
