"""Released-style checkpoint folders: what may be missing, what may be there besides, what is refused."""

import json
import shutil

import peft
import pytest
import torch
from models import save, tiny_backbone
from safetensors.torch import load_file, save_file
from stock_models import checkpoint

from x2l import registry
from x2l.backbones.video_xl import VideoXL
from x2l.types import X2LError

TOWER = "model.vision_tower.vision_tower."


@pytest.fixture
def folder(tmp_path):
    save(tiny_backbone(), tmp_path / "model")
    return tmp_path / "model"


def weights(folder):
    return load_file(folder / "model.safetensors")


def rewrite(folder, kept) -> None:
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def edit_config(folder, name="config.json", /, **values) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def assert_same_weights(one: VideoXL, other: VideoXL) -> None:
    expected = other.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in one.model.state_dict().items())


def test_shards_are_one_checkpoint(tmp_path):
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path, max_shard_size="100KB")
    backbone.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same_weights(VideoXL.from_pretrained(str(tmp_path)), backbone)


@pytest.mark.parametrize("fields", [{}, {"beacon_embed_init": "bos"}], ids=["eos", "bos"])
def test_missing_vst_weights_start_as_video_xl_starts_them(folder, fields):
    edit_config(folder, eos_token_id=[5, 6], bos_token_id=3, **fields)
    kept = {name: weight for name, weight in weights(folder).items() if "beacon_" not in name}
    rewrite(folder, kept)
    model = VideoXL.from_pretrained(str(folder)).model
    attention = model.model.layers[1].self_attn
    assert attention.beacon_k_proj.weight.equal(attention.k_proj.weight)
    assert attention.beacon_q_proj.bias.equal(attention.q_proj.bias)
    first = model.model.embed_tokens.weight[3 if fields else 5]
    assert model.model.beacon_embed_tokens.weight[0].equal(first)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beacon_embed_init": "mean"}, "beacon_embed_init: expected eos or bos, got 'mean'"),
        ({"eos_token_id": None}, "eos_token_id: expected the id of a token"),
    ],
)
def test_a_vst_embedding_that_cannot_start_is_refused(folder, fields, message):
    edit_config(folder, **fields)
    rewrite(folder, {name: weight for name, weight in weights(folder).items() if "beacon_" not in name})
    with pytest.raises(X2LError, match=message):
        VideoXL.from_pretrained(str(folder))


def test_weights_of_other_sizes_are_named(folder):
    edit_config(folder, intermediate_size=100)
    message = (
        r"holds 9 weights of other sizes, such as .*down_proj.weight, \[64, 96\] where .* says \[64, 100\]"
    )
    with pytest.raises(X2LError, match=message):
        VideoXL.from_pretrained(str(folder))


def test_buffers_that_releases_hold_are_tolerated(folder):
    extra = {
        f"{TOWER}vision_model.embeddings.position_ids": torch.arange(17)[None],
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    }
    expected = VideoXL.from_pretrained(str(folder))
    rewrite(folder, weights(folder) | extra)
    assert_same_weights(VideoXL.from_pretrained(str(folder)), expected)


def test_other_weights_are_listed(folder):
    stored = weights(folder)
    rewrite(folder, stored | {"model.resampler.weight": torch.ones(2), "model.sae.bias": torch.ones(2)})
    with pytest.raises(X2LError, match=r"also holds 2 weights: model\.resampler\.weight, model\.sae\.bias"):
        VideoXL.from_pretrained(str(folder))
    rewrite(folder, {name: weight for name, weight in stored.items() if ".mlp.up_proj." not in name})
    with pytest.raises(X2LError, match=r"lacks 3 weights: model\.layers\.0\.mlp\.up_proj\.weight, "):
        VideoXL.from_pretrained(str(folder))


def split_tower(folder, clip_folder) -> None:
    """The tower in a CLIP checkpoint of its own, as some releases have it."""
    stored = weights(folder)
    tower = {name.removeprefix(TOWER): stored.pop(name) for name in list(stored) if name.startswith(TOWER)}
    clip_folder.mkdir()
    save_file(tower | {"text_model.final_layer_norm.bias": torch.ones(2)}, clip_folder / "model.safetensors")
    (clip_folder / "config.json").write_text("{}")
    rewrite(folder, stored)
    edit_config(folder, mm_vision_tower=str(clip_folder))


def test_a_tower_may_be_stored_elsewhere(folder, tmp_path):
    whole = VideoXL.from_pretrained(str(folder))
    split_tower(folder, tmp_path / "clip")
    split = VideoXL.from_pretrained(str(folder))
    assert_same_weights(split, whole)
    assert ", tower " in split.identity and split.identity != whole.identity


def test_the_identity_is_that_of_the_weights_wherever_they_lie(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "renamed")
    assert VideoXL.from_pretrained(str(copy)).identity == VideoXL.from_pretrained(str(folder)).identity


def test_a_tower_that_does_not_fit_is_one_line(folder, tmp_path):
    split_tower(folder, tmp_path / "clip")
    edit_config(folder, mm_vision_tower="no/such-tower")
    with pytest.raises(X2LError, match="mm_vision_tower: 'no/such-tower' is neither"):
        VideoXL.from_pretrained(str(folder))
    edit_config(folder, mm_vision_tower=str(tmp_path / "clip"))
    (tmp_path / "clip" / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(X2LError, match=r"model cannot be loaded, ") as caught:
        VideoXL.from_pretrained(str(folder))
    assert "\n" not in str(caught.value)


def adapters_of(network, base, folder) -> torch.nn.Module:
    """Writes adapters of random weights as peft does; the network with them merged into it."""
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(network, config)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


@pytest.mark.parametrize("name", ["x2l_tiny", "qwen2_5_vl"])
def test_adapters_are_loaded_on_their_base(name, folder, tmp_path):
    if name == "qwen2_5_vl":
        folder = tmp_path / "stock"
        folder.mkdir()
        checkpoint(name, folder)
    base = registry.build("backbone", {"name": name, "model": str(folder)})
    again = registry.build("backbone", {"name": name, "model": str(folder)})
    expected = adapters_of(again.model, folder, tmp_path / "adapters")
    adapted = registry.build("backbone", {"name": name, "model": str(tmp_path / "adapters")})
    state, differ = adapted.model.state_dict(), []
    for key, weight in expected.state_dict().items():
        assert torch.equal(state[key], weight)
        differ += [key] * (not torch.equal(base.model.state_dict()[key], weight))
    assert {key.split(".")[-2] for key in differ} == {"q_proj", "v_proj"}
    assert adapted.identity.startswith(f"{base.identity}, adapter ")
    assert adapted.encode_text("the").equal(base.encode_text("the"))


def test_adapters_that_cannot_be_loaded_are_named(folder, tmp_path):
    adapters = tmp_path / "adapters"
    adapters_of(tiny_backbone(hidden_size=32).model, folder, adapters)
    with pytest.raises(X2LError, match=r"backbone.model: .*adapters cannot be merged into its base"):
        VideoXL.from_pretrained(str(adapters))
    adapters_of(tiny_backbone(num_hidden_layers=4).model, folder, adapters)
    with pytest.raises(X2LError, match=r"adapters does not fit its base, 4 weights such as .*layers.3"):
        VideoXL.from_pretrained(str(adapters))
    adapters_of(tiny_backbone().model, tmp_path / "nowhere", adapters)
    with pytest.raises(X2LError, match=r"base_model_name_or_path of .*nowhere' is neither"):
        VideoXL.from_pretrained(str(adapters))
    edit_config(adapters, "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(X2LError, match=r"adapters: expected the model that .* got None"):
        VideoXL.from_pretrained(str(adapters))
    adapters_of(tiny_backbone().model, folder, adapters)
    (adapters / "adapter_model.safetensors").rename(adapters / "adapter_model.bin")
    with pytest.raises(X2LError, match=r"lacks adapter_model\.safetensors"):
        VideoXL.from_pretrained(str(adapters))
