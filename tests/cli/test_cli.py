"""The command line on a real video and a tiny random model: answers, indices, errors, methods of others."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from models import tiny_backbone
from video_files import write_video as write_blocks

from x2l import registry
from x2l.cli import main
from x2l.needles import backgrounds
from x2l.needles.render import Renderer
from x2l.needles.video_file import write_video
from x2l.needles.world import write_script
from x2l.pipeline import Pipeline
from x2l.recipe import Recipe
from x2l.video import open_video

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
BRIGHTNESS, EVERY_NTH = THIRD_PARTY / "brightness.py", THIRD_PARTY / "every_nth.py"
NUM_CHUNKS, FRAMES_PER_CHUNK, TOKENS_PER_FRAME = 6, 2, 4
QUESTION = "How many bells appear in the video?"
KEYS = [
    *["answer", "plan", "kv_tokens_per_chunk", "scores", "chunks", "kv_tokens", "kv_bytes"],
    *["kv_tokens_full", "cache_reduction", "seconds", "backbone", "compressor", "oracle", "selector"],
    *["proportional", "versions"],
]
SECONDS = ["chunk", "decode", "embed", "prefill", "score", "assemble", "first_token", "total"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A needle video of 6 chunks, a model, and another model of the same sizes."""
    folder = tmp_path_factory.mktemp("cli")
    script = write_script(np.random.default_rng(0), NUM_CHUNKS, FRAMES_PER_CHUNK)
    renderer = Renderer(64, backgrounds.load("eval", 0)[:2])
    times_s = np.arange(0, script.num_seconds, 0.25)
    write_video(folder / "needles.mp4", (renderer.frame(script, time_s) for time_s in times_s), fps=4.0)
    for seed, name in enumerate(("model", "other")):
        backbone = tiny_backbone(seed)
        backbone.model.save_pretrained(folder / name)
        backbone.tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(autouse=True)
def _only_shipped_methods(monkeypatch):
    """What a plugin registers is forgotten after each test, and its file imported again in the next."""
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})
    for name in [name for name in sys.modules if name.startswith("x2l_plugin_")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def x2l(capsys):
    """Runs a command line in this process: exit code, stdout, stderr."""

    def run(*args) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def ok(x2l):
    """Runs a command line that must succeed: stdout."""

    def run(*args) -> str:
        code, out, err = x2l(*args)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def refused(x2l):
    """Runs a command line that must be refused in one line on stderr: that line."""

    def run(*args) -> str:
        code, out, err = x2l(*args)
        assert code == 2 and out == "", (code, out, err)
        assert err.startswith("x2l: error: ") and err.count("\n") == 1, err
        return err

    return run


def with_model(folder: Path, name: str = "model") -> list:
    return ["--set", f"backbone.model={folder / name}", "--set", "selector.k=2", "--ratios", "2,8"]


def asking(
    folder: Path, source: Path | str = "needles.mp4", writing: tuple = ("--max-new-tokens", 4)
) -> list:
    """Arguments of an `ask` about the video, but for the question."""
    return ["ask", folder / source, *with_model(folder), "--chunk-frames", 2, *writing]


def answered(data: dict) -> dict:
    """What two askings of the same must agree on."""
    keys = set(KEYS) - {"seconds"}
    return {key: data[key] for key in keys}


def test_ask_prints_the_answer_its_evidence_and_its_cost(ok, folder):
    data = json.loads(ok(*asking(folder), QUESTION, "--json"))
    lines = ok(*asking(folder), QUESTION).splitlines()
    assert lines[0] == data["answer"]
    assert f"2 of {NUM_CHUNKS} re-loaded as L-KVs (2x)" in lines[2]
    for line, chunk in zip(lines[3:5], evidence(data), strict=True):
        span, score = data["chunks"][chunk], data["scores"][chunk]
        assert f"#{chunk} " in line and f"{span['start_s']:.1f} - {span['end_s']:.1f} s" in line
        assert line.endswith(f"score {score:.4g}")
    cache = next(line for line in lines if line.startswith("KV cache"))
    assert f"{data['kv_tokens']} tokens" in cache and f"uncompressed {data['kv_tokens_full']} tokens" in cache
    assert f"reduced by {100 * data['cache_reduction']:.1f} %" in cache
    of_index, of_answer = lines[-2:]
    assert of_index.startswith("index s") and all(name in of_index for name in ("decode", "prefill"))
    assert of_answer.startswith("answer s") and "first token" in of_answer and "prefill" not in of_answer
    spent = [float(number) for number in re.findall(r"[\d.]+", of_answer)]
    assert sum(spent[:-1]) <= spent[-1] + 0.002


def evidence(data: dict) -> list[int]:
    return [chunk for chunk, ratio in enumerate(data["plan"]) if ratio == 2]


def test_a_recipe_file_takes_the_place_of_the_recommended_parts(ok, folder, tmp_path):
    """What a file leaves out is as in the paper."""
    recommended = json.loads(ok(*asking(folder), QUESTION, "--json"))
    assert recommended["proportional"]["beta"] == 1 and recommended["compressor"]["passes"] == "clustered"
    assert recommended["oracle"]["inner"]["name"] == "attention"
    (tmp_path / "recipe.yaml").write_text("ratios: [2, 8]\nselector: {name: top_k, k: 2}\n")
    paper = json.loads(ok(*asking(folder), QUESTION, "--json", "--recipe", tmp_path / "recipe.yaml"))
    assert paper["proportional"]["beta"] == 0 and paper["compressor"]["passes"] == "own"
    assert paper["oracle"]["name"] == "attention"


def test_json_has_exactly_the_promised_keys(ok, folder):
    data = json.loads(ok(*asking(folder), QUESTION, "--json"))
    assert list(data) == KEYS and list(data["seconds"]) == SECONDS
    assert list(data["versions"]) == ["x2l", "torch", "transformers", "python"]
    assert sorted(data["plan"]) == [2, 2, 8, 8, 8, 8] and len(data["scores"]) == NUM_CHUNKS
    best = np.argsort(data["scores"])[-2:]
    assert sorted(best.tolist()) == evidence(data)
    assert [chunk["start_s"] for chunk in data["chunks"]] == [0, 2, 4, 6, 8, 10]
    assert [chunk["end_s"] for chunk in data["chunks"]] == [1, 3, 5, 7, 9, 11]
    assert {chunk["num_frames"] for chunk in data["chunks"]} == {FRAMES_PER_CHUNK}
    assert data["backbone"] == {"name": "x2l_tiny", "model": str(folder / "model")}
    assert data["compressor"] == {
        "name": "vst",
        "edge_ratio": None,
        "carry": "reset",
        "passes": "clustered",
        "memory": "low",
    }
    assert data["oracle"]["name"] == "sentences"
    assert data["selector"] == {"name": "top_k", "k": 2, "detail_ratio": None, "gist_ratio": None}


def test_json_counts_tokens_bytes_and_seconds(ok, folder):
    data = json.loads(ok(*asking(folder), QUESTION, "--json"))
    full = FRAMES_PER_CHUNK * TOKENS_PER_FRAME
    assert data["kv_tokens_per_chunk"] == [full // ratio for ratio in data["plan"]]
    assert data["kv_tokens"] == sum(data["kv_tokens_per_chunk"])
    assert data["kv_tokens_full"] == full * NUM_CHUNKS
    geometry = tiny_backbone().geometry
    assert data["kv_bytes"] == data["kv_tokens"] * geometry.bytes_per_token
    assert data["cache_reduction"] == pytest.approx(1 - data["kv_tokens"] / data["kv_tokens_full"])
    parts = [seconds for name, seconds in data["seconds"].items() if name != "total"]
    assert min(parts) > 0 and data["seconds"]["total"] >= sum(parts) * (1 - 1e-9)


def test_the_device_of_the_answer_is_reported_and_dtypes_have_two_names(ok, folder):
    for dtype in ("bf16", "bfloat16"):
        data = json.loads(ok(*asking(folder), QUESTION, "--json", "--dtype", dtype, "--device", "cpu"))
        assert data["backbone"]["dtype"] == "bfloat16" and data["backbone"]["device"] == "cpu"
    assert data["kv_bytes"] == data["kv_tokens"] * tiny_backbone().geometry.bytes_per_token // 2


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_asking_an_index_is_asking_the_video_bit_for_bit(ok, folder, tmp_path, dtype):
    direct = json.loads(ok(*asking(folder), QUESTION, "--json", "--dtype", dtype))
    made = ["--chunk-frames", 2, "--dtype", dtype, *with_model(folder)]
    printed = ok("index", folder / "needles.mp4", "-o", tmp_path / "index", *made)
    assert f"{NUM_CHUNKS} chunks of {NUM_CHUNKS * FRAMES_PER_CHUNK} frames at 2x, 8x" in printed
    # The directory remembers model, dtype, ratios and selector.
    again = json.loads(ok("ask", tmp_path / "index", QUESTION, "--json", "--max-new-tokens", 4))
    assert answered(again) == answered(direct)
    assert all(again["seconds"][name] > 0 for name in SECONDS)


def test_an_index_takes_another_oracle_and_selector(ok, folder, tmp_path):
    ok("index", folder / "needles.mp4", "-o", tmp_path / "index", "--chunk-frames", 2, *with_model(folder))
    ask = ["ask", tmp_path / "index", QUESTION, "--json", "--max-new-tokens", 1]
    data = json.loads(ok(*ask, "--oracle", "llm_attention", "--selector", "last_n", "--set", "selector.k=1"))
    assert data["oracle"]["name"] == "llm_attention" and data["plan"] == [8, 8, 8, 8, 8, 2]
    assert json.loads(ok(*ask, "--ratios", "2,8"))["plan"]  # what it was made with may be said again


def test_an_index_of_scenes_is_asked_like_any_other(ok, refused, folder, tmp_path):
    index = tmp_path / "index"
    ok("index", folder / "needles.mp4", "-o", index, "--chunk-frames", "scenes", *with_model(folder))
    ask = ["ask", index, QUESTION, "--json", "--max-new-tokens", 1]
    data = json.loads(ok(*ask))
    assert json.loads(ok(*ask, "--chunk-frames", "scenes"))["plan"] == data["plan"]
    assert "was made with scenes, not 2" in refused(*ask[:3], "--chunk-frames", 2)


@pytest.mark.parametrize("value", ["0", "-3", "abc", "1.5"])
def test_a_chunk_is_frames_or_a_scene(refused, folder, value):
    line = refused("ask", folder / "needles.mp4", QUESTION, f"--chunk-frames={value}")
    assert "chunk_frames: expected" in line and "scenes" in line


def test_check_tells_what_an_index_holds_and_what_is_damaged(ok, refused, folder, tmp_path):
    index = tmp_path / "index"
    ok("index", folder / "needles.mp4", "-o", index, "--chunk-frames", 2, *with_model(folder))
    held = json.loads(ok("check", index, "--json"))
    assert held["verified"] and held["bytes"] == sum(path.stat().st_size for path in index.iterdir())
    assert (held["chunks"], held["frames"], held["end_s"]) == (
        NUM_CHUNKS,
        NUM_CHUNKS * FRAMES_PER_CHUNK,
        11.0,
    )
    per_chunk, per_token = FRAMES_PER_CHUNK * TOKENS_PER_FRAME, tiny_backbone().geometry.bytes_per_token
    low, high = (NUM_CHUNKS * (per_chunk // ratio) for ratio in (2, 8))
    assert held["levels"] == {
        "2x": {"tokens": low, "bytes": low * per_token},
        "8x": {"tokens": high, "bytes": high * per_token},
    }
    assert held["video"]["file"] == "needles.mp4" and held["video"]["sampling"]["fps"] == 1.0
    text = ok("check", index)
    assert "every tensor is what was written" in text and f"{low} tokens" in text
    assert held["backbone"] in text and "needles.mp4" in text and "fps 1.0" in text

    tensors = index / "tensors.safetensors"
    *most, last = tensors.read_bytes()
    tensors.write_bytes(bytes([*most, last ^ 1]))
    for command in (["check", index], ["ask", index, QUESTION, "--quiet"]):
        line = refused(*command)
        assert str(tensors) in line and "prefix values" in line and "damaged" in line
    assert ok("ask", index, QUESTION, "--no-verify", "--quiet", "--max-new-tokens", 4)
    assert "is a video" in refused(*asking(folder), QUESTION, "--no-verify")


def test_options_that_an_index_cannot_honour_are_refused(refused, ok, folder, tmp_path):
    index = tmp_path / "index"
    ok("index", folder / "needles.mp4", "-o", index, "--chunk-frames", 2, *with_model(folder))
    assert "ratios: the index" in refused("ask", index, QUESTION, "--ratios", "4,8")
    assert "compressor: the index" in refused("ask", index, QUESTION, "--compressor", "identity")
    assert "sampling: the index" in refused("ask", index, QUESTION, "--fps", 2)
    assert "--salvage" in refused("ask", index, QUESTION, "--salvage")
    other = ["--set", f"backbone.model={folder / 'other'}"]
    assert "index: was made with backbone" in refused("ask", index, QUESTION, "--quiet", *other)
    plugin = ["--plugin", BRIGHTNESS, "--oracle", "brightness", "--quiet"]
    lacking = refused("ask", index, QUESTION, *plugin)
    assert "brightness" in lacking and "holds no features" in lacking and "re-index" in lacking


def test_a_recipe_file_and_flags_that_win_over_it(ok, folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"backbone: {{name: x2l_tiny, model: {folder / 'model'}}}\nratios: [4]\nchunk_frames: 3\n"
    )
    ask = ["ask", folder / "needles.mp4", QUESTION, "--json", "--recipe", recipe, "--max-new-tokens", 1]
    data = json.loads(ok(*ask))
    assert data["plan"] == [4] * 4 and data["chunks"][0]["num_frames"] == 3
    data = json.loads(ok(*ask, "--num-frames", 4, "--chunk-frames", 2, "--ratios", "2"))
    assert data["plan"] == [2, 2] and data["chunks"][-1]["end_s"] == pytest.approx(11.75)


def test_several_questions_are_asked_on_one_index_and_judged(ok, folder, tmp_path):
    other = "Is it mostly day or mostly night in the video?"
    said = [json.loads(ok(*asking(folder), text, "--json")) for text in (QUESTION, other)]
    file = tmp_path / "questions.json"
    items = [
        {
            "id": "bells",
            "question": QUESTION,
            "answer": f" {said[0]['answer'].upper()}.",
            "group": "counting",
        },
        {"question": other, "answer": "zebra", "group": "holistic", "gold_spans_s": [[2, 3.5]]},
        QUESTION,
    ]
    file.write_text(json.dumps(items))
    data = json.loads(ok(*asking(folder), "--questions", file, "--json"))
    assert list(data) == ["answers", "accuracy"] and data["accuracy"] == 0.5
    assert [list(item) for item in data["answers"]] == [[*KEYS, "id", "question", "expected"]] * 3
    assert [item["id"] for item in data["answers"]] == ["bells", "2", "3"]
    assert [item["expected"] for item in data["answers"]] == [items[0]["answer"], "zebra", None]
    assert [answered(item) for item in data["answers"]] == [answered(said[i]) for i in (0, 1, 0)]

    text = ok(*asking(folder), "--questions", file)
    lines = text.splitlines()
    assert lines[0].startswith("right") and lines[1].startswith("wrong") and "expected zebra" in lines[1]
    assert "1 of 2 right" in lines and "1 not scored: without a right answer" in lines
    assert "counting   1 of 1 right" in text and "holistic   0 of 1 right" in text


def test_questions_of_an_evaluation_are_asked_about_one_video(ok, x2l, folder, tmp_path):
    """Of a video file or its index; those about others are left out, which is said."""
    file = tmp_path / "questions.json"
    record = {"question": QUESTION, "options": ["1", "2"], "gt": "B", "type": "count", "try": 0}
    videos = ["./VNBench/needles.mp4", "other.mp4", None]
    file.write_text(json.dumps([record | {"video": video, "try": i} for i, video in enumerate(videos)]))
    ok("index", folder / "needles.mp4", "-o", tmp_path / "index", "--chunk-frames", 2, *with_model(folder))
    for asks in (asking(folder), ["ask", tmp_path / "index"]):
        _, out, err = x2l(*asks, "--questions", file, "--json", "--quiet")
        answers = json.loads(out)["answers"]
        assert [(each["id"], each["expected"]) for each in answers] == [("count-0", "2"), ("count-2", "2")]
        assert "1 questions about other videos are left out" in err


def test_gold_spans_reach_the_annotated_oracle(ok, folder, tmp_path):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps([{"question": QUESTION, "gold_spans_s": [[4, 7]]}]))
    data = json.loads(ok(*asking(folder), "--questions", file, "--json", "--oracle", "annotated"))
    assert evidence(data["answers"][0]) == [2, 3] and data["accuracy"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("{}", "expected a JSON list"),
        ("[]", "at least one question"),
        ("[3]", "record 0: expected an object or a text"),
        ('["a", {"id": "x"}]', "record 1.question: missing"),
        ('[{"question": "a", "anwser": "b"}]', "did you mean 'answer'?"),
        ('[{"question": "a", "options": ["b", "c"], "gt": "D"}]', "the answer 'D' is none of its options"),
        ('[" "]', "record 0.question: expected text"),
        ('[{"question": "a", "video": "other.mp4"}]', "holds no question about needles.mp4"),
    ],
)
def test_wrong_files_of_questions_are_named(refused, folder, tmp_path, text, expected):
    file = tmp_path / "questions.json"
    file.write_text(text)
    message = refused(*asking(folder), "--questions", file)
    assert str(file) in message and expected in message


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--oracle", "atention"], ["oracle 'atention'", "did you mean 'attention'?"]),
        (["--compressor", "vts"], ["compressor 'vts'", "did you mean 'vst'?"]),
        (["--set", "selector.kk=3"], ["selector.kk", "did you mean 'k'?"]),
        (["--set", "selectr.k=3"], ["selectr", "did you mean 'selector'?"]),
        (["--set", "selector.k=many"], ["selector.k", "expected", "'many'"]),
        (["--set", "selector.k"], ["expected dotted.key=value"]),
        (["--set", "backbone.model=absent"], ["backbone.model", "absent"]),
        (["--set", "backbone.dtype=int8"], ["backbone.dtype", "int8"]),
        (["--ratios", "2;8"], ["--ratios", "such as 2,32"]),
        (["--ratios", "0"], ["ratios", "positive"]),
        (["--recipe", "absent.yaml"], ["absent.yaml"]),
        (["--plugin", "absent.py"], ["absent.py", "no such file"]),
        (["--reader", "decor"], ["reader 'decor'", "did you mean 'decord'?"]),
        (["--fps", "0"], ["sampling.fps"]),
        (["--num-frames", "99999999999"], ["sampling.num_frames", "10,000,000", "99999999999"]),
        (["--fps", "1", "--num-frames", "3"], ["--fps", "--num-frames"]),
        (["--dtype", "fp8"], ["--dtype", "fp16"]),
        (["--device", "nonsense"], ["device 'nonsense'"]),
        (["--devise", "cpu"], ["--devise", "--device"]),
    ],
    ids=lambda value: "=".join(value) if value and value[0].startswith("--") else "",
)
def test_wrong_options_are_refused_before_any_work(refused, folder, args, expected):
    message = refused(*asking(folder), QUESTION, *args)
    assert all(part in message for part in expected), message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_one_line(refused, folder):
    assert "device 'cuda'" in refused(*asking(folder), QUESTION, "--device", "cuda")


def test_wrong_usage_is_one_line(refused, folder):
    assert "QUESTION or --questions" in refused(*asking(folder))
    assert "QUESTION is empty" in refused(*asking(folder), " ")
    assert "aks" in refused("aks")
    assert "--out" in refused("index", folder / "needles.mp4")
    assert "absent.yaml" in refused("fit", "absent.yaml", "--out", "runs")


def test_wrong_sources_are_named(refused, folder, tmp_path):
    assert "absent.mp4" in refused("ask", tmp_path / "absent.mp4", QUESTION)
    (tmp_path / "text.mp4").write_text("not a video")
    assert "text.mp4" in refused("ask", tmp_path / "text.mp4", QUESTION)
    assert "expected an x2l index" in refused("ask", tmp_path, QUESTION)
    assert "no such file" in refused("ask", "Is it day or night? " * 20, folder / "needles.mp4")
    assert "File name too long" in refused("index", "Is it day or night? " * 20, "-o", tmp_path / "index")


def test_a_folder_that_may_not_be_read_is_not_said_to_lack_the_file(refused, folder, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    was_root = os.geteuid() == 0  # who may read everything
    try:
        if was_root:
            os.seteuid(65534)
        assert "cannot be read (Permission denied)" in refused("ask", locked / "needles.mp4", QUESTION)
    finally:
        if was_root:
            os.seteuid(0)


def test_a_url_is_quoted_as_it_is_and_said_to_be_no_file(refused, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video, url = folder / "needles.mp4", "https://example.com/v.mp4?a=1"
    for command in (
        ["ask", url, QUESTION],
        ["chat", url],
        ["index", url, "-o", "index"],
        ["index", video, "-o", url],
        ["check", url],
        ["ask", video, "--questions", url],
        ["ask", video, QUESTION, "--recipe", url],
        ["needles", "--out", url],
    ):
        assert f"{url}: is a URL, expected a path on this machine" in refused(*command)
    assert not list(tmp_path.iterdir())


def raising(error):
    def index(*_):
        raise error

    return index


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"), "--max-frames"),
        (MemoryError("Unable to allocate 745. GiB for an array"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (PermissionError(13, "Permission denied", "locked.mp4"), "locked.mp4: Permission denied"),
    ],
)
def test_what_the_machine_refuses_is_one_line(refused, folder, monkeypatch, error, expected):
    monkeypatch.setattr(Pipeline, "index", raising(error))
    assert expected in refused("ask", folder / "needles.mp4", QUESTION, *with_model(folder), "--quiet")


def test_an_interruption_is_one_line_and_a_bug_is_raised(x2l, folder, monkeypatch):
    ask = ["ask", folder / "needles.mp4", QUESTION, *with_model(folder), "--quiet"]
    monkeypatch.setattr(Pipeline, "index", raising(KeyboardInterrupt()))
    code, out, err = x2l(*ask)
    assert (code, out, err.strip()) == (130, "", "x2l: interrupted")
    monkeypatch.setattr(Pipeline, "index", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        x2l(*ask)


def test_a_refused_index_leaves_everything_as_it_was(refused, folder, tmp_path):
    make = ["index", folder / "needles.mp4", *with_model(folder)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    assert "mine" in refused(*make, "-o", tmp_path / "mine")
    assert "not a checkpoint folder" in refused(
        *make, "-o", tmp_path / "new", "--set", "backbone.model=absent"
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_lost_frames_are_told(x2l, folder, tmp_path):
    data = write_blocks(tmp_path / "whole.mp4", num_frames=120, seed=0).read_bytes()
    damaged = bytearray(data)
    start = len(data) // 2
    damaged[start : start + len(data) // 10] = np.random.default_rng(0).bytes(len(data) // 10)
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    lost = open_video(tmp_path / "damaged.mp4", salvage=True).lost
    ask = ["ask", tmp_path / "damaged.mp4", QUESTION, "--salvage", "--json", *with_model(folder)]
    code, out, err = x2l(*ask, "--max-new-tokens", 1)
    assert code == 0 and json.loads(out) and lost > 0
    assert f"{lost} frames lost ({100 * lost / 120:.1f} % of the frames)" in err


def test_words_that_the_model_does_not_know_are_told_on_stderr(x2l, folder):
    code, out, err = x2l(*asking(folder), "How many zebras appear?", "--json")
    assert code == 0 and json.loads(out)
    listed = folder / "model" / "tokenizer.json"
    num_words = len(tiny_backbone().tokenizer)
    assert f"x2l: warning: words that the backbone does not know: zebras; it knows {num_words} words" in err
    assert str(listed) in err and json.loads(listed.read_text())["model"]["vocab"]


def test_warnings_are_told_whatever_python_is_told_to_ignore(x2l, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as PYTHONWARNINGS=ignore does
        code, _, err = x2l(*asking(folder), "How many zebras appear?", "--quiet")
    assert code == 0 and err.startswith("x2l: warning: ") and "zebras" in err


def test_quiet_prints_the_answer_alone(x2l, folder):
    data = json.loads(x2l(*asking(folder), QUESTION, "--json")[1])
    assert x2l(*asking(folder), QUESTION, "--quiet") == (0, f"{data['answer']}\n", "")


def test_methods_lists_every_name_with_its_line_and_source(ok):
    listed = ok("methods")
    for slot in registry.SLOTS:
        assert f"\n{slot}\n" in f"\n{listed}"
        for name in registry.names(slot):
            line, source = registry.summary(slot, name)
            assert any(row.split() == [name, *line.split()] for row in listed.splitlines())
            assert source in listed
    assert "requires: vst" in listed
    own = ok("methods", "oracle", "--plugin", BRIGHTNESS)
    assert "brightness" in own and "compressor" not in own


def test_an_unknown_slot_is_refused(refused):
    assert "did you mean 'oracle'?" in refused("methods", "oracles")


def test_a_third_party_oracle_is_used_by_name(ok, folder):
    video = open_video(folder / "needles.mp4", Recipe().sampling)
    brightness = [clip.frames.mean() for clip in video.clips(video.equal_parts(FRAMES_PER_CHUNK))]
    plugin = ["--json", "--plugin", BRIGHTNESS, "--oracle", "brightness"]
    for prefer, order in (("bright", 1), ("dark", -1)):
        data = json.loads(ok(*asking(folder), QUESTION, *plugin, "--set", f"oracle.prefer={prefer}"))
        assert data["oracle"] == {"name": "brightness", "prefer": prefer}
        assert data["scores"] == pytest.approx([order * mean for mean in brightness])
        assert evidence(data) == sorted(np.argsort(data["scores"])[-2:].tolist())


def test_a_third_party_compressor_is_used_by_name_and_remembered(ok, refused, folder, tmp_path):
    plugin = ["--plugin", EVERY_NTH]
    direct = json.loads(ok(*asking(folder), QUESTION, "--json", *plugin, "--compressor", "every_nth"))
    assert direct["compressor"] == {"name": "every_nth", "memory": "full", "edge_ratio": None}
    full = FRAMES_PER_CHUNK * TOKENS_PER_FRAME
    assert direct["kv_tokens_per_chunk"] == [full // ratio for ratio in direct["plan"]]

    made = [*with_model(folder), "--chunk-frames", 2, *plugin, "--compressor", "every_nth"]
    ok("index", folder / "needles.mp4", "-o", tmp_path / "index", *made)
    again = ok("ask", tmp_path / "index", QUESTION, "--json", "--max-new-tokens", 4, *plugin)
    assert answered(json.loads(again)) == answered(direct)


def process(*args) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "x2l.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_process_of_its_own_with_methods_of_others(folder):
    plugins = ["--plugin", BRIGHTNESS, "--oracle", "brightness", "--plugin", EVERY_NTH]
    done = process(*asking(folder), QUESTION, "--json", *plugins, "--compressor", "every_nth")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["oracle"]["name"] == "brightness" and data["compressor"]["name"] == "every_nth"


def test_help_and_version_and_wrong_usage_as_a_process():
    assert process("--version").stdout.startswith("x2l 0.")
    assert process().stdout == process("--help").stdout
    assert all(name in process("--help").stdout for name in ("ask", "index", "methods", "fit"))
    done = process("ask")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("x2l: error: ")


def test_an_answer_is_shown_while_it_is_written(ok, folder):
    streamed = ok(*asking(folder), QUESTION, "--stream", "--max-new-tokens", "6")
    whole = ok(*asking(folder), QUESTION, "--no-stream", "--max-new-tokens", "6")
    assert streamed.splitlines()[0].strip() == whole.splitlines()[0]
    assert len(streamed.splitlines()) == len(whole.splitlines())
    quiet = ok(*asking(folder), QUESTION, "--stream", "--quiet", "--max-new-tokens", "6")
    assert quiet.strip() == whole.splitlines()[0]


def test_an_answer_ends_where_it_is_told_to(ok, folder):
    whole = ok(*asking(folder), QUESTION, "--quiet", "--max-new-tokens", "12").split()
    stopped = ok(*asking(folder), QUESTION, "--quiet", "--max-new-tokens", "12", "--stop", whole[0])
    assert len(whole) > 1 and stopped.split() == whole[:1]


def test_a_replayed_answer_is_the_one_that_is_launched(ok, folder):
    answers = {
        decode: ok(*asking(folder), QUESTION, "--quiet", "--max-new-tokens", "12", "--decode", decode)
        for decode in ("auto", "eager", "graph")
    }
    assert len(set(answers.values())) == 1 and len(answers["graph"].split()) > 1


def test_sampling_depends_on_the_temperature(ok, folder):
    def answers(*options):
        return {ok(*asking(folder), QUESTION, "--quiet", "--max-new-tokens", "8", *options) for _ in range(3)}

    assert len(answers()) == len(answers("--temperature", "0")) == 1
    torch.manual_seed(0)
    assert len(answers("--temperature", "2")) > 1
    assert len(answers("--temperature", "2", "--seed", "5")) == 1


def test_a_sampled_answer_can_be_repeated(ok, folder, tmp_path):
    """By the seed that is stored with it, whatever was drawn before, and the same alone and among others."""
    (tmp_path / "q.json").write_text(json.dumps(["Is it day?", QUESTION]))
    sampled = [*asking(folder, writing=("--max-new-tokens", "8")), "--temperature", "2"]
    first = json.loads(ok(*sampled, QUESTION, "--json"))
    text = ok(*sampled, QUESTION, "--seed", first["seed"], "--no-stream")
    assert text.splitlines()[0] == first["answer"] and f"seed      {first['seed']}" in text
    many = json.loads(ok(*sampled, "--questions", tmp_path / "q.json", "--seed", first["seed"], "--json"))
    assert [item["seed"] for item in many["answers"]] == [first["seed"]] * 2
    assert many["answers"][1]["answer"] == first["answer"]
    assert "seed" not in json.loads(ok(*asking(folder), QUESTION, "--json", "--seed", "5"))


def test_letters_that_a_model_cannot_tell_apart_are_refused(x2l, folder, tmp_path):
    item = {"question": "What colour is it?", "options": ["red", "blue"], "answer": "red"}
    (tmp_path / "q.json").write_text(json.dumps([item]))
    choosing = [*asking(folder, writing=()), "--letters"]
    code, out, err = x2l(*choosing, "--questions", tmp_path / "q.json")
    assert (code, out) == (2, "") and "cannot tell the letters of options apart" in err
    code, out, err = x2l(*choosing, QUESTION)
    assert (code, out) == (2, "") and "has no options to choose from" in err
    code, out, err = x2l(*choosing, QUESTION, "--stop", ".")
    assert (code, out) == (2, "")
    assert "--letters excludes --max-new-tokens, --temperature, --stop and --decode" in err


def test_a_conversation_knows_its_turns(ok, folder, monkeypatch):
    asked, ask = [], Pipeline.ask

    def noted(self, index, question, **options):
        assert options["stop_strings"] == ["never said"] and options["max_new_tokens"] == 4
        asked.append(question)
        return ask(self, index, question, **options)

    monkeypatch.setattr(Pipeline, "ask", noted)
    typed = "How many bells are there?\nIs it day?\n/new\nIs it night?\n\nnever read\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    said = ok("chat", *asking(folder)[1:], "--stop", "never said").splitlines()
    assert [question.text for question in asked] == [typed.splitlines()[i] for i in (0, 1, 3)]
    assert [len(question.history) for question in asked] == [0, 1, 0]
    assert asked[1].history[0] == (asked[0].text, said[0].strip())
    assert "of the cache gone" in said[1] and len(said) == 6
