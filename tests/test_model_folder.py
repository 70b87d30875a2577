"""What is known of a model's folder: strides, which model it is, and what is wrong with it."""

import json
from pathlib import Path

import pytest

from motive.models import backbones
from motive.models import folder as model_folder
from motive.store.hashes import LARGE
from testing.tiny_backbones import write_backbone


def test_a_folder_may_say_its_strides_outright(tmp_path):
    """As LTX-Video does from 0.9.5 on, whose blocks no longer halve both."""
    (tmp_path / "vae").mkdir()
    config = {"spatio_temporal_scaling": [True] * 4, "patch_size": 4, "patch_size_t": 1}
    config |= {"temporal_compression_ratio": 8, "spatial_compression_ratio": 32}
    (tmp_path / "vae/config.json").write_text(json.dumps(config))
    assert model_folder.read_strides(str(tmp_path)) == (8, 32)


def test_a_pipeline_that_we_do_not_know_is_refused_by_name(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanVideoToVideoPipeline"}')
    supported = "WanVideoToVideoPipeline; supported: WanPipeline, WanImageToVideoPipeline, LTXPipeline"
    with pytest.raises(ValueError, match=supported):
        model_folder.latent_shape(str(tmp_path), 9, 64, 64)


def test_the_fingerprint_of_a_transformer_is_of_both_experts_and_where_they_meet(tmp_path):
    write_backbone("a14b", tmp_path)
    seen = {model_folder.fingerprint(str(tmp_path), "transformer")}
    index = tmp_path / "model_index.json"
    index.write_text(index.read_text().replace("0.875", "0.9"))
    seen.add(model_folder.fingerprint(str(tmp_path), "transformer"))
    (tmp_path / "transformer_2/more.json").touch()
    seen.add(model_folder.fingerprint(str(tmp_path), "transformer"))
    assert len(seen) == 3


def test_one_changed_byte_in_the_middle_of_large_weights_is_another_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_backbone("a14b", Path("model"))
    large = Path("model/transformer/large.safetensors")
    large.write_bytes(bytes(LARGE))
    before = model_folder.fingerprint("model", "transformer")
    with large.open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"1")
    changed = model_folder.fingerprint("model", "transformer")
    assert changed != before
    assert len(list(Path(".motive/work/digests").iterdir())) == 2
    for file in Path(".motive/work/digests").iterdir():
        file.write_text("x")  # it is remembered, and not read again
    assert model_folder.fingerprint("model", "transformer") not in (before, changed)


def test_a_second_expert_needs_to_know_where_it_begins(tmp_path):
    write_backbone("a14b", tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["boundary_ratio"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for use in (
        lambda path: model_folder.fingerprint(path, "transformer"),
        lambda path: backbones.load_transformer(path, "float32", "cpu"),
    ):
        with pytest.raises(ValueError, match=r"transformer_2/, but its model_index.json no boundary_ratio"):
            use(str(tmp_path))


@pytest.mark.parametrize("component", ["transformer", "vae", "text_encoder", "tokenizer"])
def test_a_component_without_its_files_or_with_torn_weights_is_named(tmp_path, component):
    write_backbone("a14b", tmp_path)
    load = {
        "transformer": lambda: backbones.load_transformer(str(tmp_path), "float32", "cpu"),
        "vae": lambda: backbones.load_vae(str(tmp_path), "cpu"),
    }.get(component, lambda: backbones.load_text_encoder(str(tmp_path), "float32", "cpu"))
    for file in (tmp_path / component).glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ValueError, match=f"{component} can't be loaded"):
            load()
    for file in (tmp_path / component).iterdir():
        if file.name != "config.json":
            file.unlink()
    with pytest.raises(ValueError, match=f"{component} can't be loaded"):
        load()
