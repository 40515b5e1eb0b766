"""The pages in docs and CONTRIBUTING, followed to the letter; recipes of trainings are in their own tests."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pages
import pytest
import torch
import yaml
from models import bare_index, index_of, read_chunks, small_video, tiny_backbone
from oracle_checkpoints import save_languagebind
from safetensors.torch import load_file
from stock_models import FOLDER, QUESTION, TEXT, TOWER, read_and_seen, video
from transformers import AutoTokenizer, LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration

from x2l import registry
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.cli import main
from x2l.compressors.identity import Identity
from x2l.data._release import Release
from x2l.evaluation.claims import Claim
from x2l.evaluation.exports import FORMATS
from x2l.evaluation.recipe import Evaluation, _Keys
from x2l.needles import backgrounds
from x2l.needles.dataset import read_dataset
from x2l.needles.questions import GROUPS, ask_all
from x2l.needles.world import write_script
from x2l.oracles._time_phrases import Video, named_spans
from x2l.oracles.languagebind import load
from x2l.questions import Record
from x2l.recipe import Recipe
from x2l.scoring import is_right
from x2l.storage import store
from x2l.types import Question
from x2l.video import Sampling, open_video

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "needles.mp4"
STOCK = FOLDER / "llava_next_video"
PAGE = ROOT / "docs" / "bring_your_own_model.md"
NEEDLES, EVALUATION = ROOT / "docs" / "needles.md", ROOT / "docs" / "evaluation.md"
POST_TRAINING, CONTRIBUTING = ROOT / "docs" / "post_training.md", ROOT / "CONTRIBUTING.md"
INDEX = ROOT / "docs" / "indexing.md"
WEIGHING, ORACLES = ROOT / "docs" / "weighing_and_passes.md", ROOT / "docs" / "oracles.md"
FOLLOWED = {PAGE, INDEX, NEEDLES, EVALUATION, POST_TRAINING, WEIGHING, ORACLES}
FOLLOWED |= {
    ROOT / "docs" / f"{name}.md" for name in ("limits", "methods", "results", "training_data", "web")
}
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FOLLOWED |= {BENCHMARKS}
NEWCOMERS = (
    "README",
    "concepts",
    "bring_your_own_oracle",
    "bring_your_own_benchmark",
    "memory",
    "reproducing",
)
FOLLOWED |= {
    ROOT / "docs" / f"{name}.md" for name in (*NEWCOMERS, "troubleshooting", "faq")
}  # in test_site.py


def blocks(language: str, page: Path = PAGE) -> list[str]:
    return pages.blocks(language, page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[list[str]]:
    return pages.commands(page.read_text(encoding="utf-8"))


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table under a heading row that begins like this."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading)) + 2
    end = next(i for i, line in enumerate([*lines, ""]) if i >= start and not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:end]]


def named(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny LLaVA-NeXT-Video, with the processor's settings as the stock one saved them."""
    folder = tmp_path_factory.mktemp("llava_next_video")
    shutil.copytree(STOCK, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = LlavaNextVideoConfig(
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config=TOWER | {"model_type": "clip_vision_model", "image_size": 24, "patch_size": 6},
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    torch.manual_seed(0)
    LlavaNextVideoForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "llava_next_video.py"
    path.write_text(blocks("python")[0])
    return path


@pytest.fixture(scope="module")
def backbone(checkpoint, plugin):
    registry.load_plugin(plugin)
    return registry.build("backbone", {"name": "llava_next_video", "model": str(checkpoint)})


@torch.no_grad()
def test_the_family_of_the_page_holds_the_law_of_the_page(backbone):
    sample = open_video(EXAMPLE, Sampling(num_frames=6))
    spaces = {}
    exec(blocks("python")[1], spaces)
    whole = next(open_video(EXAMPLE, Sampling(num_frames=6)).clips())
    (block,), pixels = read_and_seen(backbone, whole)
    before, after = backbone._around_the_video(QUESTION)
    ids = backbone.encode_text(before + "<video>" * len(block.tokens) + after)[None]
    spaces["assert_identity"](backbone, sample, QUESTION, input_ids=ids, pixel_values_videos=pixels[None])


@torch.no_grad()
def test_the_family_of_the_page_sees_what_the_stock_processor_makes(backbone):
    _, seen = read_and_seen(backbone, video())
    expected = load_file(STOCK / "inputs.safetensors")["pixel_values_videos"][0]
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


def test_the_command_of_the_page_answers(checkpoint, plugin, capsys):
    given = {"video.mp4": str(EXAMPLE), "llava_next_video.py": str(plugin)}
    given["backbone.model=llava-hf/LLaVA-NeXT-Video-7B-hf"] = f"backbone.model={checkpoint}"
    command, *arguments = shlex.split(blocks("bash")[0].replace("\\\n", " "))
    assert command == "x2l" and given.keys() <= set(arguments)
    assert main([given.get(argument, argument) for argument in arguments]) == 0
    assert "KV cache" in capsys.readouterr().out


def test_the_checkpoint_of_the_page_is_verified_as_it_says(checkpoint, plugin, tmp_path, monkeypatch, capsys):
    command, verify, _, *options = shlex.split(blocks("bash")[1])
    assert (command, verify) == ("x2l", "verify") and options[:2] == ["--plugin", plugin.name]
    monkeypatch.chdir(tmp_path)
    options[1] = str(plugin)
    assert main([verify, str(checkpoint), *options, "--video", str(EXAMPLE), "--frames", "8"]) == 0
    page = json.loads((tmp_path / "page.json").read_text())
    statuses = {check["name"]: check["status"] for check in page["checks"]}
    assert page["backbone"] == "llava_next_video"
    assert statuses.pop("stock model") in ("pass", "skipped") and set(statuses.values()) == {"pass"}


def test_every_field_of_the_table_exists(backbone):
    names = re.findall(r"^\| `(\w+)", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(names) == 10 and all(hasattr(backbone, name) for name in names)


def test_every_page_is_followed_and_its_links_lead_somewhere():
    assert set((ROOT / "docs").glob("*.md")) == FOLLOWED
    for page in (*FOLLOWED, CONTRIBUTING, ROOT / "README.md", ROOT / "recipes" / "README.md"):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
                slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{page.name}: {link}"


def sample_script():
    """That of examples/needles.mp4: see examples/make_sample.py."""
    num_backgrounds = len(backgrounds.load("eval", 2026))
    return write_script(
        np.random.default_rng(2026), 22, last_scene_seconds=5, num_backgrounds=num_backgrounds
    )


def test_the_questions_of_the_page_are_about_the_sample_video():
    shown, script = rows(NEEDLES, "| kind | group"), sample_script()
    assert [named(kind) + named(group) for kind, group, *_ in shown] == [
        list(item) for item in GROUPS.items()
    ]
    for (kind,), text, answer in ((named(cell), text, answer) for cell, _, text, answer in shown):
        draws = (ask_all(script, np.random.default_rng(i), {kind: 100}, inner_only=True) for i in range(300))
        assert any((q.text, q.answer) == (text, answer) for asked in draws for q in asked), text


def test_the_command_of_the_page_writes_needle_videos(checkout, capsys):
    (command,) = commands(NEEDLES)
    assert main([*command, "--quiet"]) == 0
    folder = checkout / command[command.index("--out") + 1]
    items = read_dataset(folder)
    assert len(items) == 2 and all(len(asked) > 3 for _, asked in items)
    assert (folder / "dataset.json").is_file() and "sha256" in NEEDLES.read_text()


def test_an_evaluation_of_own_videos_follows_the_page(checkout, capsys):
    (checkout / "data").mkdir()
    shutil.copy(EXAMPLE, checkout / "data" / "park.mp4")
    (checkout / "data" / "questions.json").write_text(blocks("json", EVALUATION)[0])
    for text in blocks("yaml", EVALUATION):
        (checkout / re.match(r"# (\S+)", text).group(1)).write_text(text)
    options = {
        "eval": ["--set", "base.sampling.num_frames=20", "--quiet"],
        "report": ["--quiet"],
        "export": [],
        "ask": ["--num-frames", "20", "--quiet"],
    }
    assert [command[0] for command in commands(EVALUATION)] == list(options)
    for command in commands(EVALUATION):
        assert main([*command, *options[command[0]]]) == 0
    assert (checkout / "runs" / "own" / "report.html").is_file()
    assert [row[0].strip("`") for row in rows(EVALUATION, "| format | what")] == list(FORMATS)
    lines = [json.loads(line) for line in (checkout / "runs" / "own" / "results.jsonl").open()]
    asked = {line["question"]: (line["kind"], line["group"], line["num_options"]) for line in lines}
    assert asked == {"colour-0": ("colour", "detail", 3), "count-0": ("count", "count", 0)}


def test_what_the_page_calls_right_is():
    judged = rows(EVALUATION, "| answer | said")
    assert len(judged) > 3
    for answer, said, verdict in judged:
        assert is_right(said, Question("?", answer=answer)) is (verdict == "right"), said
    for options, answer, said, verdict in rows(EVALUATION, "| options | right"):
        question = Question("?", options=tuple(options.split("; ")), answer=answer)
        assert is_right(said, question) is (verdict == "right"), said


def test_every_key_of_an_evaluation_is_on_the_page():
    keys = {
        name: meaning
        for (name,), meaning in ((named(key), text) for key, text in rows(EVALUATION, "| key |"))
    }
    assert list(keys) == [field.name for field in fields(_Keys)]
    assert {field.name for field in fields(Recipe)} == set(named(keys["base"]))
    shipped = registry.names("data")
    assert set(shipped) <= set(named(keys["data"]))
    of_data = {field.name for name in shipped for field in fields(registry.get("data", name))}
    assert set(named(keys["data"])) <= of_data | set(shipped)
    claimed = [name for row in rows(EVALUATION, "| key of a claim") for name in named(row[0])]
    assert sorted(claimed) == sorted(field.name for field in fields(Claim))
    of_record = [name for row in rows(EVALUATION, "| field of a record") for name in named(row[0])]
    assert sorted(of_record) == sorted(field.name.rstrip("_") for field in fields(Record))


def test_every_benchmark_is_on_its_page_with_a_command_that_is_valid():
    recipes = set()
    for data, command, _ in rows(BENCHMARKS, "| data | command"):
        _, _, recipe, *options = shlex.split(command.strip("`"))
        evaluation = Evaluation.load(
            ROOT / recipe, [value for name, value in pairwise(options) if name == "--set"]
        )
        assert named(data)[:1] in ([], [evaluation.mapping["data"]["name"]])
        recipes.add(ROOT / recipe)
    assert recipes == set((ROOT / "recipes" / "benchmarks").glob("*.yaml"))
    released = [name for name in registry.names("data") if issubclass(registry.get("data", name), Release)]
    for heading in ("| data | records", "| data | asked as"):
        assert sorted(named(row[0])[0] for row in rows(BENCHMARKS, heading)) == released


def test_what_a_training_leaves_is_asked_as_the_page_says(checkout, capsys):
    fit, ask = commands(POST_TRAINING)[:2]
    model = Path(ask[-1].removeprefix("backbone.model="))
    assert model.parent == Path(fit[fit.index("--out") + 1])
    shutil.copytree(X2LTiny.default_model, model)
    assert main([*ask, "--quiet", "--num-frames", "20"]) == 0
    assert "does not know" not in capsys.readouterr().err


def test_an_oracle_of_ones_own_is_a_row_of_a_table(checkout, capsys):
    (code,) = (block for block in blocks("python", CONTRIBUTING) if block.startswith("# mine.py"))
    (checkout / "mine.py").write_text(code)
    (command,) = commands(CONTRIBUTING)
    assert main([*command, "--smoke", "--quiet"]) == 0
    assert "\n| mine | " in capsys.readouterr().out


def test_the_citation_names_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = cited["preferred-citation"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert paper["title"] in text and paper["url"] in text
    assert cited["version"] == re.search(
        r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M
    ).group(1)


def test_the_page_on_oracles_lists_them_and_its_recipes_are_valid():
    listed = [name for row in rows(ORACLES, "| oracle | compares") for name in named(row[0])]
    assert sorted(listed) == registry.names("oracle")
    text = ORACLES.read_text(encoding="utf-8")
    specs = [yaml.safe_load(spec)["oracle"] for spec in re.findall(r"oracle: \{.*?\}(?=[`\n])", text)]
    assert len(specs) == 5
    for spec in specs:
        registry.check("oracle", spec)


def test_a_published_languagebind_is_converted_as_the_page_says(tmp_path, monkeypatch):
    folder = save_languagebind(tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    expected = load(str(folder), "cpu").embed_text("a red star")
    (folder / "model.safetensors").unlink()
    monkeypatch.chdir(folder)
    exec(blocks("python", ORACLES)[0], {})
    load.cache_clear()
    assert torch.equal(load(str(folder), "cpu").embed_text("a red star"), expected)


def test_scores_from_elsewhere_are_given_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = blocks("json", ORACLES)
    (tmp_path / "scores.jsonl").write_text(line)
    (tmp_path / "mine.py").write_text(blocks("python", ORACLES)[1])
    text = ORACLES.read_text(encoding="utf-8")
    specs = (re.search(rf"oracle: (\{{name: {name}.*?\}})`", text) for name in ("precomputed", "callable"))
    precomputed, function = (registry.build("oracle", yaml.safe_load(spec.group(1))) for spec in specs)
    video, tiny = json.loads(line)["video"], tiny_backbone()
    index = bare_index(4, file=video)
    assert precomputed.score(Question(json.loads(line)["question"]), index, tiny).argmax() == 1
    source = read_chunks(tiny)
    index = index_of(tiny, Identity(), source, oracles=(function,))
    brightest = [chunk.frames.mean(axis=(1, 2, 3)).max() for chunk in source]
    assert function.score(Question("?"), index, tiny).tolist() == pytest.approx(brightest)


def test_every_time_of_the_page_is_read():
    video = Video(7200.0, lambda number: (float(number), number + 1.0))
    phrases = [phrase for row in rows(ORACLES, "| it reads |") for phrase in row[0].split(", ")]
    assert len(phrases) == 18
    for phrase in phrases:
        assert named_spans(phrase, video), phrase


def test_the_page_on_weighing_is_followed(checkout, capsys):
    """Its question is answered, and its table is what `x2l estimate` counts."""
    (ask,) = commands(WEIGHING)
    assert main([*ask, "--max-new-tokens", "1"]) == 0
    ways = rows(WEIGHING, "| `compressor`")
    assert len(ways) == 5
    counted = {}
    for frames in (256, 2048):
        for way in ways:
            fields = yaml.safe_load(way[0].strip("`"))
            sets = [f"compressor.{key}={value}" for key, value in fields.items() if key != "name"]
            sets += ["ratios=[2, 32]", "compressor.edge_ratio=2"]
            given = [part for each in sets for part in ("--set", each)]
            capsys.readouterr()
            assert main(["estimate", "--frames", str(frames), "--json", *given]) == 0
            counted[frames, way[0]] = json.loads(capsys.readouterr().out)["prefill_flops"]
    for way in ways:
        told = [float(share) for share in re.findall(r"([0-9.]+)x", way[2])]
        shares = [counted[frames, way[0]] / counted[frames, ways[0][0]] for frames in (256, 2048)]
        assert told == [round(share, 2) for share in shares]


def test_the_catalogue_is_what_the_command_lists():
    """In a process of its own: other tests register methods."""
    code = "from x2l.cli import main; main(['methods', '--markdown'])"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert page.partition("\n## ")[2] == listed.removeprefix("## ")


def test_the_commands_of_the_index_page_keep_and_ask(checkout, capsys):
    """On a shorter video, which lies in the folder of the page too."""
    short = small_video(checkout / "short")
    shutil.copytree(short.parent, checkout / "videos")
    given = {"examples/needles.mp4": str(short), "2": "1"}  # a job more is a process more
    *commands_, listed, asked = commands(INDEX)
    assert len(commands_) == 5
    for arguments in (*commands_, listed, asked):
        assert main([given.get(each, each) for each in arguments]) == 0, arguments
    said = capsys.readouterr().out
    assert "every tensor is what was written" in said and "1 videos, 1 indices" in said
    sizes = {name: store.load(checkout / "runs" / name).num_bytes for name in ("needles", "small")}
    assert sizes["small"] < 0.5 * sizes["needles"]


def test_the_camera_of_the_index_page_is_asked(checkout, capsys):
    (code,) = blocks("python", INDEX)
    exec(code, {"__name__": "page"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1].isdigit()] == ["0", "1", "2", "3"]
