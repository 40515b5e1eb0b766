"""Parts with weights of their own: found, trained, saved, loaded again, and never left behind unseen."""

import copy
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from models import QUESTION, chunks, index_of, tiny_backbone
from pages import blocks
from safetensors.torch import load_file, save_file
from test_post_training import (
    Killed,
    batches,
    folder,  # noqa: F401, a fixture
    module_of,
    pipeline_of,
    recipe_of,
    run,
)
from torch import nn

import x2l
from x2l import ChunkCompressor, Oracle, Pipeline, registry, weights
from x2l.chunkers.fixed import Fixed
from x2l.cli import main
from x2l.compressors.mean_pool import MeanPool
from x2l.errors import X2LError
from x2l.interfaces import Part
from x2l.needles.dataset import write_dataset
from x2l.oracles.annotated import Annotated
from x2l.pipeline.indexing import made_with, require_same_weights
from x2l.recipe import Recipe, build_pipeline
from x2l.selectors.top_k import TopK
from x2l.training.levels import Levels
from x2l.training.loop import read_log
from x2l.training.post_training import merge
from x2l.training.qa_recipe import VideoQARecipe
from x2l.training.x2l_module import X2LModule


def learned_pool_of_the_page() -> type:
    """The class that CONTRIBUTING.md shows."""
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = (block for block in blocks("python", page) if "class LearnedPool" in block)
    names = {"__name__": __name__}
    exec(code, names)
    return names["LearnedPool"]


LearnedPool = learned_pool_of_the_page()
HEAD_DIM = tiny_backbone().geometry.head_dim
COMPRESSOR = {"name": "learned_pool", "head_dim": HEAD_DIM}


@dataclass
class Scorer(Oracle):
    """One that weighs chunks by a learned number, and may ask another."""

    inner: Oracle | None = None

    def __post_init__(self):
        self.scale = nn.Parameter(torch.ones(()))
        self.layers = [nn.Linear(2, 2)]

    def score(self, question, index, backbone):
        return self.scale * torch.arange(float(len(index.chunks)))


@pytest.fixture(scope="module", autouse=True)
def _registered():
    """Both are known by name here and nowhere else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})
        x2l.register("learned_pool")(LearnedPool)
        x2l.register("scorer")(Scorer)
        yield


@pytest.fixture(scope="module")
def recipe(folder, tmp_path_factory) -> Path:  # noqa: F811
    path = tmp_path_factory.mktemp("recipe") / "learned.yaml"
    return recipe_of(folder, path, trains=["compressor"], pipeline=pipeline_of(folder, compressor=COMPRESSOR))


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("learned")
    assert run(recipe, out, "lr=0.1") == 0
    return out


def test_weights_are_found_wherever_they_are_held():
    inside = Scorer(Scorer()).own_weights()
    names = {"scale", "layers.0.weight", "layers.0.bias"}
    assert {*inside.state_dict()} == names | {f"inner.{name}" for name in names}
    assert inside.get_parameter("inner.scale").shape == ()


def test_before_training_it_is_a_mean():
    backbone = tiny_backbone()
    given = chunks(backbone, 2)
    learned, mean = (index_of(backbone, c, given) for c in (LearnedPool(HEAD_DIM), MeanPool()))
    for ours, theirs in zip(learned.chunks, mean.chunks, strict=True):
        torch.testing.assert_close(ours.levels[8].values, theirs.levels[8].values)


def test_training_changes_the_compressor_and_nothing_else(trained, folder):  # noqa: F811
    changed = load_file(trained / "trained.safetensors")
    assert {*changed} == {"compressor.query"} and changed["compressor.query"].abs().max() > 0.01
    assert torch.equal(load_file(trained / "compressor.safetensors")["query"], changed["compressor.query"])
    before, after = (load_file(path / "model.safetensors") for path in (folder, trained / "model"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    stored = torch.load(trained / "last.ckpt", weights_only=True)["state_dict"]
    assert {*stored} == {"parts.compressor.query"}


def test_whatever_a_training_writes_follows_the_umask(trained):
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in trained.rglob("*") if path.is_file()]
    assert {path.name for path in files} > {"trained.safetensors", "model.safetensors", "config.json"}
    odd = [path.name for path in files if path.stat().st_mode & 0o777 != 0o666 & ~umask]
    assert not odd


def test_adapters_and_a_compressor_learn_together(folder, tmp_path):  # noqa: F811
    path = recipe_of(folder, tmp_path / "both.yaml", pipeline=pipeline_of(folder, compressor=COMPRESSOR))
    assert run(path, tmp_path, "trains=[lora, compressor]", "num_steps=2") == 0
    changed = load_file(tmp_path / "trained.safetensors")
    assert {"compressor.query"} < {*changed} and any("lora_" in name for name in changed)
    assert (tmp_path / "model" / "config.json").is_file() and (tmp_path / "compressor.safetensors").is_file()


def test_a_killed_run_goes_on_with_the_same_weights(recipe, trained, tmp_path, monkeypatch):
    whole = X2LModule.training_step

    def step(module, *given):
        if module.step == 3:
            raise Killed
        return whole(module, *given)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(X2LModule, "training_step", step)
        run(recipe, tmp_path, "lr=0.1")
    assert run(recipe, tmp_path, "lr=0.1") == 0
    assert read_log(tmp_path / "log.jsonl") == read_log(trained / "log.jsonl")
    resumed, unbroken = (load_file(out / "compressor.safetensors") for out in (tmp_path, trained))
    assert torch.equal(resumed["query"], unbroken["query"])


def test_the_file_answers_as_the_trained_part(trained, folder):  # noqa: F811
    """The same logits as in training, from a pipeline that a spec with `weights` builds."""
    weights = str(trained / "compressor.safetensors")
    spec = pipeline_of(folder, compressor=COMPRESSOR | {"weights": weights})
    loaded, fresh = module_of(folder, pipeline=spec), module_of(folder, pipeline=spec, trains=["compressor"])
    plain = module_of(folder, pipeline=pipeline_of(folder, compressor=COMPRESSOR), trains=["compressor"])
    state = load_file(trained / "trained.safetensors")
    plain.load_state_dict({f"parts.{name}": tensor for name, tensor in state.items()}, strict=False)
    batch = batches(1)[0]
    expected = plain.answer(batch).logits
    for module in (loaded, fresh):
        for logits, wanted in zip(module.answer(batch).logits, expected, strict=True):
            torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5)
    built = build_pipeline(Recipe.from_mapping(spec)).compressor
    assert registry.describe(built)["weights"] == weights
    assert torch.equal(registry.build("compressor", registry.describe(built)).query, built.query)


def test_an_index_knows_weights_by_what_they_are(trained, folder):  # noqa: F811
    specs = [COMPRESSOR, COMPRESSOR | {"weights": str(trained / "compressor.safetensors")}]
    fresh, loaded = (
        made_with(registry.build("compressor", s), (2,), Fixed())["compressor_weights"] for s in specs
    )
    assert len(fresh) == 16 and fresh != loaded
    assert "compressor_weights" not in made_with(MeanPool(), (2,), Fixed())


def test_an_index_is_asked_on_the_command_line_from_anywhere(trained, folder, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Made with a relative path; refused once other weights lie there."""
    write_dataset(tmp_path / "made", 1, 3, 2, size=64, seconds_per_scene=2, questions={"exist": 1})
    (video,) = (tmp_path / "made" / "videos").glob("*.mp4")
    (tmp_path / "w.safetensors").write_bytes((trained / "compressor.safetensors").read_bytes())
    recipe = pipeline_of(
        folder, compressor=COMPRESSOR | {"weights": "w.safetensors"}, oracle={"name": "attention"}
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    assert main(["index", str(video), "-o", "index", "--recipe", "recipe.yaml"]) == 0
    monkeypatch.chdir("/")
    index = str(tmp_path / "index")
    assert main(["ask", index, "Is there a star?", "--max-new-tokens", "1"]) == 0
    save_file({"query": torch.ones(HEAD_DIM)}, tmp_path / "w.safetensors")
    assert main(["ask", index, "Is there a star?"]) == 2
    assert "index: was made with compressor weights" in capsys.readouterr().err


def test_an_index_of_other_weights_is_refused():
    backbone = tiny_backbone()
    index = index_of(backbone, LearnedPool(HEAD_DIM), chunks(backbone, 2))
    with pytest.raises(X2LError, match=r"was made with compressor weights none, not [0-9a-f]{16}"):
        require_same_weights(index, LearnedPool(HEAD_DIM))


@dataclass
class Projected(ChunkCompressor):
    """Learned weights beside a random projection that is not, a count, and a frozen layer."""

    def __post_init__(self):
        super().__post_init__()
        self.net = nn.BatchNorm1d(HEAD_DIM, affine=False)
        self.query = nn.Parameter(torch.zeros(2, HEAD_DIM).t())
        self.frozen = nn.Linear(HEAD_DIM, 2).requires_grad_(False)
        self.net.register_buffer("projection", torch.randn(2))
        self._tower = nn.Linear(2, 2)

    def compress(self, kv, ratio):
        pooled = MeanPool().compress(kv, ratio)
        return replace(pooled, values=pooled.values + (self.query + self.frozen.weight.t()).mean())


def test_what_is_written_is_what_was_trained_with(folder, tmp_path, monkeypatch):  # noqa: F811
    """Buffers and frozen weights too, although each process draws them anew."""
    x2l.register("projected")(Projected)
    kept = {}
    monkeypatch.setattr(X2LModule, "on_fit_end", lambda m: kept.update(copy.deepcopy(m.parts.state_dict())))
    levels = [{"num_steps": 1, "ratios": {"2/8": 1}}]
    path = recipe_of(folder, tmp_path / "r.yaml", trains=["compressor"], num_steps=2, levels=levels)
    assert run(path, tmp_path / "out", "pipeline.compressor={name: projected}", "accumulate=1") == 0
    written = load_file(tmp_path / "out" / "compressor.safetensors")
    assert {f"compressor.{name}" for name in written} == {*kept} and not any(
        "tower" in name for name in written
    )
    assert all(torch.equal(written[name.partition(".")[2]], tensor) for name, tensor in kept.items())


def test_merging_knows_how_long_the_run_was(folder, tmp_path):  # noqa: F811
    """A stage that begins behind step 1,000 is a stage."""
    stages = [{"num_steps": 1500, "ratios": {"2/8": 1}}, {"num_steps": 500, "ratios": {"2": 1}}]
    path = recipe_of(folder, tmp_path / "r.yaml", trains=["compressor"], levels=stages, num_steps=2000)
    learned = f"pipeline.compressor={{name: learned_pool, head_dim: {HEAD_DIM}}}"
    recipe = VideoQARecipe.load(path, [learned])
    save_file({"compressor.query": torch.ones(HEAD_DIM)}, tmp_path / "trained.safetensors")
    merge(recipe, tmp_path / "trained.safetensors", tmp_path / "model")
    assert torch.equal(load_file(tmp_path / "compressor.safetensors")["query"], torch.ones(HEAD_DIM))


def test_what_a_part_froze_stays_frozen(folder):  # noqa: F811
    x2l.register("projected")(Projected)
    pipeline = pipeline_of(folder, compressor={"name": "projected"})
    module = module_of(folder, pipeline=pipeline, trains=["compressor"])
    assert [name for name, _ in module.named_parameters() if _.requires_grad] == ["parts.compressor.query"]


@dataclass
class Lazy(Oracle):
    """Loads its network when it first looks, as many do."""

    def prepare(self, chunk, backbone):
        self.net = nn.Linear(2, 2)
        return {"mean": chunk.visual_tokens.mean()[None]}

    def score(self, question, index, backbone):
        return torch.tensor([features["mean"].item() for features in self.features(index)])


def test_a_network_that_is_loaded_later_is_not_its_identity(video):
    pipeline = Pipeline(tiny_backbone(), MeanPool(), Lazy(), TopK(1), (2, 8), chunker=Fixed(2))
    assert pipeline.ask(pipeline.index(video), QUESTION, max_new_tokens=1).plan.scores is not None


def test_a_fingerprint_follows_each_change(monkeypatch):
    part, hashed = LearnedPool(HEAD_DIM), []
    whole = weights._digest
    monkeypatch.setattr(weights, "_digest", lambda state: hashed.append(1) or whole(state))
    before = part.identity
    assert part.identity == before and len(hashed) == 1
    with torch.no_grad():
        part.query.add_(1)
    assert part.identity != before and len(hashed) == 2


def test_an_attribute_that_hides_one_of_torch_is_refused():
    part = MeanPool()
    part.half = nn.Parameter(torch.zeros(1))
    with pytest.raises(X2LError, match="weights: an attribute that holds some cannot be called half"):
        part.own_weights()


def test_features_of_an_oracle_are_kept_for_its_weights():
    one, other = Scorer(), Scorer()
    assert one.key != other.key  # two draws of a layer
    other.layers[0].load_state_dict(one.layers[0].state_dict())
    assert one.key == other.key and json.loads(one.key)["weights"] == one.identity


WRONG = {
    "missing": (None, "expected the path of a safetensors file"),
    "shape": ({"query": torch.zeros(3)}, rf"query: expected \({HEAD_DIM},\), got \(3,\)"),
    "name": ({"other": torch.zeros(HEAD_DIM)}, "other: expected none, got"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_do_not_fit_are_refused(case, tmp_path):
    tensors, expected = WRONG[case]
    path = tmp_path / "weights.safetensors"
    if tensors:
        save_file(tensors, path)
    with pytest.raises(X2LError, match=f"^compressor.weights: .*{expected}"):
        registry.build("compressor", COMPRESSOR | {"weights": str(path)})


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"PK\x03\x04 pickled")
    with pytest.raises(X2LError, match=r"^compressor.weights: .*w.bin: expected a safetensors file"):
        registry.build("compressor", COMPRESSOR | {"weights": str(tmp_path / "w.bin")})
    with pytest.raises(X2LError, match=r"^compressor.weights: expected the path of a safetensors"):
        registry.check("compressor", COMPRESSOR | {"weights": 3})
    save_file({"query": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(X2LError, match="query: expected none, got"):
        registry.build("compressor", {"name": "mean_pool", "weights": str(tmp_path / "w.safetensors")})


def test_weights_that_are_not_trained_are_named(folder):  # noqa: F811
    pipeline = pipeline_of(folder, compressor=COMPRESSOR)
    with pytest.warns(UserWarning, match="compressor learned_pool: has weights that trains does not name"):
        module = module_of(folder, pipeline=pipeline, trains=["lora"])
    assert not module.pipeline.compressor.query.requires_grad


REFUSED = {
    "no weights": ({"compressor": {"name": "mean_pool"}}, {}, "trains: nothing to train in compressor"),
    "ratio 1": ({"ratios": [1]}, {}, "trains: a compressor only, expected no video at ratio 1"),
    "a stage at ratio 1": (
        {},
        {"levels": [Levels(2, {"1": 1.0, "2/8": 1.0})]},
        "trains: a compressor only, expected no video at ratio 1",
    ),
    "an oracle beside others": (
        {"oracle": {"name": "scorer"}, "compressor": {"name": "mean_pool"}},
        {"trains": ["language_model", "oracle"]},
        "trains: no answer depends on the weights of the oracle",
    ),
    "an oracle behind a selection": (
        {"oracle": {"name": "scorer"}, "compressor": {"name": "mean_pool"}},
        {"trains": ["oracle"]},
        "trains: no answer depends on it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_learn_is_refused(folder, case):  # noqa: F811
    fields, options, expected = REFUSED[case]
    pipeline = pipeline_of(folder, **({"compressor": COMPRESSOR} | fields))
    with pytest.raises(X2LError, match=expected):
        module = module_of(folder, pipeline=pipeline, **({"trains": ["compressor"]} | options))
        module.log_dict = lambda *_, **__: None
        module.training_step(batches(1)[0], 0)["loss"].backward()
        module.on_before_optimizer_step(None)


def test_tokens_are_not_kept_beside_an_oracle_that_learns(folder, tmp_path):  # noqa: F811
    pipeline = pipeline_of(folder, oracle={"name": "scorer"})
    with pytest.raises(X2LError, match="token_cache: expected null where training changes what the oracle"):
        module_of(folder, pipeline=pipeline, trains=["vst", "oracle"], token_cache=str(tmp_path))


def test_a_recipe_that_trains_what_is_unknown_is_refused_before_weights_are_loaded(folder, tmp_path, capsys):  # noqa: F811
    path = recipe_of(folder, tmp_path / "r.yaml", trains=["vts"])
    assert run(path, tmp_path / "out") == 2
    assert (
        "trains.0: unknown, expected one of all, compressor, language_model, lora" in capsys.readouterr().err
    )


def test_a_pipeline_brings_weights_to_its_backbone():
    moved = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def _apply(self, fn, recurse=True):
            moved.append(fn)
            return super()._apply(fn, recurse)

    selector = TopK(k=1)
    selector.net = Watched()
    assert isinstance(selector, Part)
    pipeline = Pipeline(tiny_backbone(), LearnedPool(HEAD_DIM), Annotated(), selector)
    assert moved and pipeline.selector.own_weights().net is selector.net
    answer = pipeline.ask(
        index_of(pipeline.backbone, pipeline.compressor, chunks(pipeline.backbone, 2)), QUESTION
    )
    assert answer.kv_tokens > 0
