"""Every recipe of an evaluation runs, and what is published is what was measured."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stock_models import checkpoint

from x2l.backbones.x2l_tiny import X2LTiny
from x2l.evaluation import run
from x2l.evaluation.claims import judge, read_claims
from x2l.evaluation.columns import with_interval
from x2l.evaluation.hashes import asked_hash
from x2l.evaluation.recipe import Evaluation
from x2l.recipe import RECOMMENDED, Recipe, build_pipeline

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = [
    path
    for path in sorted(FOLDER.rglob("*.yaml"))
    if "\nrows:" in path.read_text() and path.parent.name != "benchmarks"  # these have tests of their own
]
MOST_WORDS, WIDEST = 720, 110


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


def bring_trained_weights(path, folder, monkeypatch):
    """Go where rows find the weights that a training leaves under runs/: here, those that are shipped."""
    monkeypatch.chdir(folder)
    for recipe in Evaluation.load(path).rows.values():
        if model := recipe.backbone.get("model"):
            shutil.copytree(X2LTiny.default_model, model, dirs_exist_ok=True)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(path, folder, monkeypatch):
    """On one short video, which the recipes share."""
    bring_trained_weights(path, folder, monkeypatch)
    is_haystack = Evaluation.load(path).mapping["data"]["name"] == "haystack"
    shared = f"data.dir={folder / ('haystack' if is_haystack else 'needles')}"
    out = folder / path.stem
    summary = run(path, out, [shared, "data.seed=5"], progress=False, size="smoke")
    evaluation = Evaluation.load(path)
    assert list(summary["rows"]) == list(evaluation.rows)
    num_lines = len((out / "results.jsonl").read_text().splitlines())
    assert num_lines == len(evaluation.rows) * summary["num_questions"]["all"] > 0
    assert len(summary["claims"]) == len(evaluation.mapping.get("claims", []))
    wanted = evaluation.mapping.get("figure")
    figures = ["accuracy", "tradeoff", *([wanted["kind"]] if wanted else [])]
    assert {(out / f"{name}.{kind}").stat().st_size > 0 for name in figures for kind in ("png", "svg")} == {
        True
    }


def test_a_recipe_runs_on_a_stock_model_with_pooled_kvs(folder, tmp_path):
    """As the page says: another backbone, and a compressor that needs no VSTs."""
    model = checkpoint("qwen2_5_vl", tmp_path)
    other = [
        "base.backbone.name=qwen2_5_vl",
        f"base.backbone.model={model}",
        "base.compressor.name=mean_pool",
    ]
    assert all(option.partition("=")[0] in (FOLDER / "README.md").read_text() for option in other)
    shared = [f"data.dir={folder / 'needles'}", "data.seed=5"]
    summary = run(FOLDER / "table1.yaml", tmp_path / "out", [*shared, *other], progress=False, size="smoke")
    assert 0.4 < summary["rows"]["uniform 2x"]["cache_reduction"]["all"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_quick_run_takes_minutes(path, tmp_path, monkeypatch):
    bring_trained_weights(path, tmp_path, monkeypatch)
    start_s = time.monotonic()
    run(path, tmp_path / "out", progress=False, size="quick")
    assert time.monotonic() - start_s < 5 * 60


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_says_what_it_shows(path):
    text = path.read_text()
    assert len(text.split()) <= MOST_WORDS and text.startswith("# ")


def test_a_row_called_default_is_what_x2l_ask_does():
    backbone = X2LTiny.from_pretrained()

    def decides(recipe):
        built = build_pipeline(recipe, backbone)
        parts = built.compressor, built.oracle, built.selector
        return *parts, recipe.ratios, recipe.proportional, recipe.positions, recipe.chunk_frames

    asked = decides(Recipe.from_mapping(RECOMMENDED))
    rows = {path.stem: Evaluation.load(path).rows.get("default") for path in RECIPES}
    default = {name: decides(row) for name, row in rows.items() if row}
    assert {"spine", "one_pass", "fig2"} <= set(default)
    assert {name for name, parts in default.items() if parts != asked} == set()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_lines_fit_a_screen(path):
    assert max(map(len, path.read_text().splitlines())) <= WIDEST


def test_sizes_change_the_hash_and_no_row():
    full, quick, smoke = (Evaluation.load(RECIPES[0], size=size) for size in ("full", "quick", "smoke"))
    assert full.rows == quick.rows == smoke.rows
    assert len({full.hash(), quick.hash(), smoke.hash()}) == 3
    assert smoke.data.num < quick.data.num < full.data.num


def test_only_a_finished_run_of_the_recipe_is_published(folder, tmp_path, monkeypatch):
    done = folder / "table6"
    if not done.is_dir():
        test_a_recipe_runs(FOLDER / "table6.yaml", folder, monkeypatch)
    refused = subprocess.run([sys.executable, FOLDER / "publish.py", done], capture_output=True, text=True)
    (line,) = refused.stderr.splitlines()
    assert refused.returncode == 2 and "expected a run of recipes/table6.yaml as it is now" in line
    absent = subprocess.run([sys.executable, FOLDER / "publish.py", tmp_path], capture_output=True, text=True)
    assert absent.returncode == 2 and "summary.json: cannot be read" in absent.stderr


def test_what_does_not_work_is_told_with_the_numbers_measured():
    text = " ".join((FOLDER.parent / "docs" / "limits.md").read_text().split())
    results = {path.stem: json.loads(path.read_text()) for path in (FOLDER / "results").glob("*.json")}

    def less(name, row, other, group):
        """How much a row loses to another: "0.03 [0.00, 0.06]"."""
        gap = results[name]["differences"][other][row][group]
        mean, low, high = (round(value, 2) + 0.0 for value in (gap["mean"], *gap["interval"]))
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"

    def kind(name, row, kind):
        return f"{results[name]['rows'][row]['accuracy_by_kind'][kind]:.2f}"

    def loses_the_gist(gaps):
        """Whether a loss on the gist is more than noise."""
        return gaps["holistic"]["interval"][0] > 0

    def chance(name, kind):
        return f"{results[name]['chance_by_kind'][kind]:.2f}"

    def accuracy(name, row, group):
        return f"{results[name]['rows'][row]['accuracy'][group]['mean']:.2f}"

    def at(row, length):
        return accuracy("fig2", row, f"{length} frames")

    def inside(row, length):
        by_depth = results["fig2"]["rows"][row]["accuracy_by_depth"][f"{length} frames"]
        return f"{sum(by_depth[depth] for depth in ('25', '50', '75')) / 3:.2f}"

    def short(name, row, other, group):
        return less(name, row, other, group).split()[0]

    def gain(name, row, other, group="all"):
        return less(name, other, row, group)

    def below_2x(row, other, group="all"):
        return short("table4", row, other, group)

    attention, dual = "bi-level attention top-3", "bi-level dual encoder"
    for said in (
        f"{less('spine', attention, 'uniform 2x', 'all')} below 2x on all 900 questions of the spine",
        f"{less('table1', dual, 'uniform 2x', 'all')} at 24 scenes with the dual encoder",
        f"with six {less('fig3', 'k = 6', 'uniform 2x', 'holistic')}, where all questions together still "
        f"lose {less('fig3', 'k = 6', 'uniform 2x', 'all')} ",
        f"24 scenes {kind('table3', 'uniform 2x', 'pattern')} at 2x, "
        f"{kind('table3', 'uniform 32x', 'pattern')} at 32x, "
        f"{kind('table3', 'attention', 'pattern')} with the chunks of attention, the default oracle, "
        f"{kind('table3', 'random', 'pattern')} with random ones and "
        f"{kind('table3', 'dual encoder', 'pattern')} with the dual",
        f"beside H-KVs of 8x: {kind('table2', '2x / 8x', 'pattern')} (",
        f"Counting: {kind('spine', 'uncompressed', 'count')} uncompressed, "
        f"{kind('spine', 'uniform 2x', 'count')} at 2x, {kind('spine', 'uniform 32x', 'count')} at 32x "
        f"(a guess: {chance('spine', 'count')})",
        f"4x, never trained, reads {kind('table2', 'uniform 4x', 'detail')} of the details",
        f"8x, which was, {kind('control', 'VSTs 8x', 'detail')} (",
        f"{kind('fig3', 'k = 3', 'pair')} with three chunks of the dual encoder, "
        f"{kind('fig3', 'k = 4', 'pair')} with four or with the right two",
        f"with three to five ({kind('k_robust', 'k = 3', 'pattern')}, "
        f"with one {kind('k_robust', 'k = 1', 'pattern')}, "
        f"with twelve {kind('k_robust', 'k = 12', 'pattern')})",
        f"holistic questions lose {less('table6', 'without H-KVs', 'full', 'holistic')}, short of",
        f"Without L-KVs details lose {short('table6', 'without L-KVs', 'full', 'detail')}, and holistic "
        f"questions gain {short('table6', 'full', 'without L-KVs', 'holistic')}.",
        f"take details at 2x from {kind('vst_gain', 'plain at 2x, untrained VSTs', 'detail')} to "
        f"{kind('vst_gain', 'plain at 2x, trained VSTs', 'detail')}, as good as uncompressed",
        f"all read {kind('control', 'VSTs 2x', 'detail')} of the details; at 8x VSTs read "
        f"{kind('control', 'VSTs 8x', 'detail')}, averaged tokens "
        f"{kind('control', 'low resolution 8x', 'detail')}, a gain of "
        f"{less('control', 'low resolution 8x', 'VSTs 8x', 'detail')}.",
        f"the three reach {accuracy('control', 'bi-level, about 8x', 'all')}, "
        f"{accuracy('control', 'bi-level pooled KVs, about 8x', 'all')} and "
        f"{accuracy('control', 'bi-level low resolution, about 8x', 'all')} on all questions",
        f"more pairs ({kind('control', 'bi-level low resolution, about 8x', 'pair')}, "
        f"VSTs {kind('control', 'bi-level, about 8x', 'pair')})",
        f"read {less('chunk_size', '3 chunks cut at scenes', '3 chunks of 10 frames', 'detail')} less of",
        f"gain {short('control', 'low resolution 8x', 'bi-level, about 8x', 'detail')} on details",
        f"rank 16) gain {gain('lora_gain', 'adapted', 'before')} on held-out videos",
        f"({kind('lora_gain', 'before', 'tally')} to {kind('lora_gain', 'adapted', 'tally')};",
        f"2,048 frames is read {at(attention, 2048)}",
        f"{gain('fig2', attention, 'uniform 2x', '2048 frames')} above 2x at 2,048 frames, where 2x reads "
        f"{at('uniform 2x', 2048)} and 32x, which keeps both ends at 2x, {at('uniform 32x', 2048)} ",
        f"{inside(attention, 2048)} where it is not at one of the ends",
        f"{at('bi-level annotated top-3', 2048)} with the right chunk given",
        f"bi-level KVs gain {gain('table4', 'bi-level, trained bi-level', 'bi-level, before')}, 2x loses",
        f"up to 1,024 frames {at(attention, 1024)} or more",
        f"with one chunk ({kind('selectors', 'k = 1', 'count')}; with eight "
        f"{kind('selectors', 'k = 8', 'count')}), "
        f"the most common pattern with six or eight ({kind('selectors', 'k = 8', 'pattern')}; "
        f"with four {kind('selectors', 'k = 4', 'pattern')})",
        f"{less('selectors', 'knapsack, 15 %', 'k = 1', 'counting')} below it on number, "
        f"{less('selectors', 'knapsack, 15 %', 'k = 1', 'ordering')} on order and "
        f"{less('selectors', 'knapsack, 15 %', 'k = 6', 'holistic')} on holistic questions",
        f"By default `x2l ask` reads a needle in 2,048 frames {at('default', 2048)} [",
        f"Number there is {kind('selectors', 'k = 3', 'count')}, "
        f"2x {kind('selectors', 'uniform 2x', 'count')} (",
        f"counts better ({kind('second_training', 'uniform 2x', 'count')}, uncompressed "
        f"{kind('second_training', 'uncompressed', 'count')}) than by default "
        f"({kind('second_training', 'default', 'count')}), so the default is "
        f"{less('second_training', 'default', 'uniform 2x', 'all')} below 2x there",
        f"from {below_2x('bi-level, before', '2x, before')} to "
        f"{below_2x('bi-level, trained bi-level', '2x, trained at 2x')} below 2x on questions of all kinds",
        f"from {below_2x('bi-level, before', '2x, before', 'holistic')} to "
        f"{below_2x('bi-level, trained bi-level', '2x, trained at 2x', 'holistic')} below 2x ([table 4",
    ):
        assert said in text, said
    assert all(loses_the_gist(results["fig3"]["differences"]["uniform 2x"][f"k = {k}"]) for k in range(1, 7))
    at_2x = ("VSTs 2x", "mean-pooled KVs 2x", "low resolution 2x")
    assert len({kind("control", row, "detail") for row in at_2x}) == 1
    assert kind("table3", "annotated", "pair") == kind("fig3", "k = 4", "pair")

    page = (FOLDER / "README.md").read_text()
    for said in (
        f"Of pairs dual_encoder reads {kind('table3', 'dual encoder', 'pair')}, "
        f"attention {kind('table3', 'attention', 'pair')}, which the interval does not tell apart, "
        f"llm_attention {kind('table3', 'llm_attention', 'pair')}.",
        f"Asked sentence by sentence attention reads {kind('table3', 'by sentence', 'pair')}, as annotations",
        f"at 2,048 the right chunk gives back {at('bi-level annotated top-3', 2048)}.",
        f"reads fewer among more ({at('uniform 2x', 1024)}, {at('uniform 2x', 2048)}).",
        f"below 2x before and after (-{below_2x('bi-level, before', '2x, before')}, "
        f"-{below_2x('bi-level, trained bi-level', '2x, trained at 2x')})",
    ):
        assert said in page, said
    assert (
        min(kind("table3", row, "detail") for row in ("dual encoder", "attention", "llm_attention")) == "0.99"
    )


def test_the_front_pages_tell_what_was_measured():
    """README's table and the prose of docs/results.md, as limits above."""
    root = FOLDER.parent
    readme, page = (" ".join((root / name).read_text().split()) for name in ("README.md", "docs/results.md"))
    results = {path.stem: json.loads(path.read_text()) for path in (FOLDER / "results").glob("*.json")}

    def read(name, row, group="all"):
        return with_interval(results[name]["rows"][row]["accuracy"][group])

    def short(*where):
        return read(*where).split()[0]

    def gone(name, row):
        return f"{results[name]['rows'][row]['cache_reduction']['all']:.0%}".replace("%", " %")

    needle = "2048 frames"
    spine, long = read("spine", "default"), read("fig2", "default", needle)
    for said in (
        f"| {spine} with {gone('spine', 'default')} of the cache gone; 2x {short('spine', 'uniform 2x')}; "
        f"counting alone {short('spine', 'default', 'counting')}, 2x "
        f"{short('spine', 'uniform 2x', 'counting')} |",
        f"| {read('one_pass', 'default')} with {gone('one_pass', 'default')} of the cache gone; "
        f"2x {short('one_pass', 'uniform 2x')} |",
        f"| {long} ({read('fig2', '+ pooled', needle)}); 2x {short('fig2', 'uniform 2x', needle)} |",
        f"| {results['spine']['rows']['default']['ttft_ratio']:.2f}x of uncompressed |",
        f"first row reads {read('second_training', 'default')}, "
        f"2x {short('second_training', 'uniform 2x')}: at 2x",
    ):
        assert said in readme, said

    attention = "bi-level attention top-3"
    above = results["spine"]["differences"]["default"]["uniform 2x"]["all"]
    second = results["second_training"]["differences"]["default"]["uniform 2x"]["all"]
    for said in (
        f"holistic questions go from {short('spine', attention, 'holistic')} to "
        f"{short('spine', '+ proportional', 'holistic')} (2x: {short('spine', 'uniform 2x', 'holistic')})",
        f"with {gone('spine', attention)} of the cache gone",
        f"{with_interval(above, 3)} above it on all",
        f"After a second training it is {-second['mean']:.2f} below, on number alone",
        f"at 2,048 frames {short('fig2', 'uniform 2x', needle)} and "
        f"{short('fig2', attention, needle)} with two passes",
        f"{short('fig2', '+ pooled', needle)} with H-KVs that are means of L-KVs",
        f"default reads {long} ([why]",
    ):
        assert said in page, said
    joint = {short("fig2", row, needle) for row in ("+ joint high", attention)}
    assert len(joint) == 1, "two passes and one read alike"


def test_the_model_card_shows_the_spine_as_measured():
    results = json.loads((FOLDER / "results" / "spine.json").read_text())
    card = (FOLDER.parent / "x2l/backbones/weights/x2l_tiny/README.md").read_text()
    groups, kinds = ("detail", "ordering", "counting", "holistic"), results["chance_by_kind"]
    measured = [("chance", [results["chance"][group] for group in groups])]
    for name, row in results["rows"].items():
        measured.append((name, [row["accuracy"][group]["mean"] for group in groups]))
        measured.append((name, [row["accuracy_by_kind"][kind] for kind in kinds]))
    lines = {f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |" for name, values in measured}
    shown = re.findall(r"^\| (?:uncompressed|uniform|bi-level|chance).*", card, re.MULTILINE)
    assert len(shown) == 8 and set(shown) <= lines


def test_every_recipe_is_listed_with_its_command():
    publish = runpy.run_path(str(FOLDER / "publish.py"))
    trained = {path.stem for path in FOLDER.glob("*.yaml")} - {path.stem for path in RECIPES}
    assert trained == set(publish["FITS"])
    table = publish["files_table"]()
    for name, out in publish["FITS"].items():
        assert f"`x2l fit recipes/{name}.yaml --out runs/{out}`" in table
    published = {path.stem for path in (FOLDER / "results").glob("*.json")}
    assert published <= set(publish["TIMES"]) <= {path.stem for path in publish["recipes"]()}
    assert "--out runs/vst` | `runs/plain` |" in table


def test_figure_2_can_be_asked_for_10000_frames():
    """As its first lines say: all frames are looked at, and what no claim names is not judged."""
    comment = " ".join(line.lstrip("# ") for line in (FOLDER / "fig2.yaml").read_text().splitlines()[:8])
    options = re.findall(r"--set '?([^'\s`]+)", comment)
    evaluation = Evaluation.load(FOLDER / "fig2.yaml", options)
    assert evaluation.data.lengths == (10000,) and evaluation.data.num == 1
    assert {row.sampling.max_frames for row in evaluation.rows.values()} == {None}
    for claim in read_claims(evaluation.mapping["claims"]):
        judged = judge(claim, {}, {}, {"10000 frames": 0.1, "all": 0.1})
        assert judged["value"] is None and not judged["holds"]


def test_the_trainings_behind_an_evaluation_are_known():
    publish = runpy.run_path(str(FOLDER / "publish.py"))
    recipe = Evaluation.load(FOLDER / "table4.yaml").mapping
    assert publish["trainings"](recipe) == [Path("runs/post_2x"), Path("runs/post")]
    assert publish["trainings"](Evaluation.load(FOLDER / "table1.yaml").mapping) == []


def test_the_readme_is_what_the_results_say():
    publish = runpy.run_path(str(FOLDER / "publish.py"))
    text = (FOLDER / "README.md").read_text()
    assert text == publish["readme"]()
    assert publish["FRONT"].read_text() == publish["front"]()
    for path in RECIPES:
        command = f"x2l eval recipes/{path.relative_to(FOLDER)} --out runs/{path.stem}"
        assert f"## {path.stem}\n" in text and command in text
    published = [path for path in RECIPES if (FOLDER / "results" / f"{path.stem}.json").is_file()]
    assert published
    shipped = X2LTiny.from_pretrained().identity
    for path in published:
        summary = json.loads((FOLDER / "results" / f"{path.stem}.json").read_text())
        evaluation = Evaluation.load(path)
        assert summary["recipe_hash"] == evaluation.hash(), "measured with another recipe"
        assert summary["recipe"] == evaluation.mapping
        untrained = {name for name, row in evaluation.rows.items() if "model" not in row.backbone}
        assert {summary["backbones"][name] for name in untrained} == {shipped}, "measured with other weights"
        assert summary["asked_hash"] == asked_hash(evaluation.data.asked()), "asked other questions"
        assert not summary["is_dirty"]
        claimed = [claim["say"] for claim in evaluation.mapping.get("claims", [])]
        assert [claim["say"] for claim in summary.get("claims", [])] == claimed
        for claim in summary.get("claims", []):
            shown = f"({claim['value']:.2f}|{claim['value']:.3f})"
            assert re.search(rf"^\| {re.escape(claim['say'])} \| {shown} ", text, re.M)
