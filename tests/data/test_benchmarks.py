"""Benchmarks are read as they are released, asked as their scripts ask, and scored by their rules."""

import json
import random
from collections import defaultdict
from functools import cache, partial
from pathlib import Path
from statistics import fmean

import pytest
from models import save, small_video, tiny_backbone
from oracle_checkpoints import save_languagebind
from releases import RELEASES
from stock_models import checkpoint

from x2l.backbones.video_xl import question_prompt
from x2l.cli import main
from x2l.data import make_data
from x2l.data.mlvu import ABILITIES
from x2l.data.vnbench import TYPES
from x2l.engine.language_model import with_options
from x2l.evaluation import bootstrap
from x2l.evaluation.asked import asked
from x2l.evaluation.labels import by_label
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.tally import ALL, Tally
from x2l.evaluation.tries import all_tries
from x2l.scoring import is_right, names_an_option
from x2l.types import Question, X2LError
from x2l.video import Sampling

RECIPES = Path(__file__).parents[2] / "recipes" / "benchmarks"


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """The folder of each release."""
    folder = tmp_path_factory.mktemp("releases")
    video = small_video(folder / "video")
    return {
        name: make(folder / name, video) for name, make in RELEASES.items() if not (folder / name).mkdir()
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Settings that put tiny models in the place of a recipe's."""
    folder = tmp_path_factory.mktemp("models")
    save(tiny_backbone(), folder / "model")
    oracle = {"name": "languagebind", "model": str(save_languagebind(folder / "oracle"))}
    backbone = {"name": "video_xl", "model": str(folder / "model")}
    return [
        f"base.backbone={json.dumps(backbone)}",
        f"base.oracle={json.dumps(oracle)}",
        "base.chunk_frames=2",
    ]


def read(releases, name, **fields):
    return make_data({"name": name, "dir": str(releases[name]), **fields}, "data").items()


def test_mlvu_is_read(releases):
    with pytest.warns(UserWarning, match="2_needle.json: record 0: not scored, .*'purple' is none of its"):
        items = read(releases, "mlvu")
    assert [item.name for item in items][:2] == [
        "video/1_plotQA/plotQA_9001.mp4",
        "video/2_needle/findNeedle_9001.mp4",
    ]
    questions = [item.questions[0] for item in items]
    assert [(q.group, *q.labels) for q in questions] == [
        ("plotQA", "single-detail"),
        ("needle", "single-detail"),
        ("ego", "single-detail"),
        ("count", "multi-detail"),
        ("order", "multi-detail"),
        ("anomaly_reco", "holistic"),
        ("topic_reasoning", "holistic"),
    ]
    assert [q.answer for q in questions] == ["owl", None, "rake", "4", "2->1->3", "Fire", "sea"]
    (item,) = read(releases, "mlvu", split="test")
    (question,) = item.questions
    assert (question.id, question.answer, len(question.options)) == ("ER_901", None, 6)


def test_videomme_is_read(releases):
    items = read(releases, "videomme")
    assert [q.id for q in items[0].questions] == ["900-C", "900-O"]
    question = items[2].questions[1]
    assert (question.group, question.labels) == ("long", ("Life Record", "Handicraft", "OCR Problems"))
    assert (
        is_right("B", question) and is_right("The answer is (B).", question) and not is_right("A", question)
    )


def test_longvideobench_is_read_from_its_table_and_from_its_list(releases):
    (item,) = read(releases, "longvideobench")
    assert [(q.group, q.labels[0], q.options, q.answer) for q in item.questions] == [
        ("15 s", "E3E", ("milk", "tea", "sugar"), "tea"),
        ("600 s", "S2A", ("milk", "tea"), "milk"),
    ]
    (item,) = read(releases, "longvideobench", split="test")
    assert {q.answer for q in item.questions} == {None}


def test_lvbench_is_read(releases):
    (item,) = read(releases, "lvbench")
    first, second = item.questions
    assert first.text == "What does the guide point at first?"
    assert first.options == ("A bridge", "A tower", "A boat", "A tree")
    assert (first.group, first.labels) == ("documentary", ("entity recognition", "key information retrieval"))
    assert (first.gold_spans_s, second.gold_spans_s) == (((2.0, 4.0),), None)


def test_vnbench_is_read_and_a_constant_letter_is_never_right_in_all_tries(releases):
    items = read(releases, "vnbench")
    assert [item.questions[0].group for item in items] == [item.name[5:-4] for item in items]
    assert [item.questions[0].labels for item in items] == [
        (name,) for name in ("ret", "ord", "cnt") for _ in "123"
    ]
    for letter in "ABCD":
        lines = [line_of(item.name, q, letter) for item in items for q in item.questions]
        tries = all_tries(lines, [ALL])
        assert tries["accuracy"][ALL]["mean"] == 0 and tries["num_questions"][ALL] == 9


def test_a_needle_is_a_picture_in_the_haystack(releases):
    items = read(releases, "v_niah", lengths=[4, 8], depths=[0, 50, 100])
    assert [item.name for item in items][:4] == [
        f"{n}-{d}-invented_kite" for n, d in ((4, 0), (4, 50), (4, 100), (8, 0))
    ]
    assert len({item.fingerprint() for item in items}) == 6
    footage = items[4].open(Sampling(fps=0.1))
    frames = [frame for clip in footage.clips([2] * 4 + [1]) for frame in clip.frames]
    is_red = [(frame == [255, 0, 0]).all() for frame in frames]
    assert is_red == [place == 4 for place in range(9)]
    (asked,) = items[4].asked(footage)
    assert asked.gold_spans_s == (pytest.approx((4 * 8 / 9, 5 * 8 / 9)),)
    assert (asked.id, asked.group, is_right("C", asked), is_right("Whale", asked)) == (
        "needle-50",
        "8 frames",
        True,
        True,
    )
    _, alone = items[2].open(Sampling()).clips([4, 1])
    assert (alone.frames == [255, 0, 0]).all()
    with pytest.raises(X2LError, match=r"haystack.mp4: has 32 frames, expected at least 40"):
        read(releases, "v_niah", lengths=[40])[0].open(Sampling())


def test_video_xl_lists_needles_in_columns(releases, tmp_path):
    source = releases["v_niah"]
    (tmp_path / "haystack.mp4").symlink_to(source / "haystack.mp4")
    (tmp_path / "invented_kite.png").symlink_to(source / "needle_datasets/needles/invented_kite.png")
    text = "What animal is printed on the kite? (A) Owl (B) Fox (C) Whale (D) Crane"
    columns = {"retrieval_question": [text], "answer": ["C"], "needle": ["invented_kite.png"]}
    (tmp_path / "qa.json").write_text(json.dumps(columns))
    data = make_data({"name": "v_niah", "dir": str(tmp_path), "lengths": [4], "depths": [0]}, "data")
    (question,) = data.items()[0].questions
    assert is_right("C) Whale", question) and not is_right("(D)", question)
    for wrong, message in (([], "an object with lists"), (columns | {"answer": []}, "lists of one length")):
        (tmp_path / "qa.json").write_text(json.dumps(wrong))
        with pytest.raises(X2LError, match=f"qa.json: expected {message}"):
            data.items()


ASKED = {
    "mlvu": "Carefully watch this video and pay attention to every detail. Based on your observations, "
    "select the best option that accurately addresses the question.\nQuestion: Which one?\nOptions:\n"
    "(A) fox\n(B) owl\n(C) hen\n(D) cat\nOnly give the best option.",
    "videomme": "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
    "How many paper cranes are folded?\nA. Two.\nB. Three.\nC. Five.\n\n"
    "Answer with the option's letter from the given choices directly.",
    "longvideobench": "What is poured first?\nA. milk\nB. tea\nC. sugar\n"
    "Answer with the option's letter from the given choices directly.\n",
    "lvbench": "What does the guide point at first?\n(A) A bridge\n(B) A tower\n(C) A boat\n(D) A tree\n"
    "Answer the question with the option letter",
    "vnbench": "What is it?\nA. Ida\nB. Otto\nC. Lena\nD. Hugo\n"
    "Answer with the option's letter from the given choices directly.",
    "v_niah": "What animal is printed on the kite?\nA. Owl\nB. Fox\nC. Whale\nD. Crane\n"
    "Answer with the option's letter",
}


@pytest.mark.filterwarnings("ignore:.*purple")
@pytest.mark.parametrize("name", RELEASES)
def test_a_question_is_put_as_the_benchmark_does(releases, name):
    data = make_data({"name": name, "dir": str(releases[name])}, "data")
    question = asked(data, data.items(), show_options=True)[0].questions[0]
    assert with_options(question) == ASKED[name]
    assert question_prompt(question).endswith("assistant\n" + ("Best Option: (" if name == "mlvu" else ""))


def test_subtitles_are_those_of_the_frames_that_are_looked_at(releases):
    items = read(releases, "videomme", subtitles=True)
    footage = items[0].open(Sampling(fps=1.0))
    said = "now press {the} edge"
    for sampling, expected in ((Sampling(fps=1.0), f"fold it once\n{said}"), (Sampling(fps=0.2), said)):
        footage = items[0].open(sampling)
        text = with_options(items[0].asked(footage)[0])
        assert text.startswith(
            f"This video's subtitles are listed below: \n{expected}\nSelect the best answer"
        )
        assert text.endswith("C. C. Five.\nThe best answer is:")
    assert "below: \nNo subtitles available\n" in with_options(items[1].asked(footage)[0])


@pytest.mark.filterwarnings("ignore:.*purple", "ignore:words that")
@pytest.mark.parametrize("name", RELEASES)
def test_a_recipe_runs_on_the_release(name, releases, models, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(f"X2L_{name.upper()}_DIR", str(releases[name]))
    sets = [part for each in [*models, *SMALL.get(name, [])] for part in ("--set", each)]
    assert main(["eval", str(RECIPES / f"{name}.yaml"), "--out", str(tmp_path), "--quiet", *sets]) == 0
    summary, table = json.loads((tmp_path / "summary.json").read_text()), capsys.readouterr().out
    assert summary["num_questions"] == NUM_QUESTIONS[name]
    assert summary["num_unscored"] == (name == "mlvu") and not summary["broken"]
    assert ("all tries right" in table) == (name == "vnbench")
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    for row in summary["rows"]:
        own = [line for line in lines if line["row"] == row and line["right"] is not None]
        labels = summary["rows"][row]["accuracy_by_label"]
        assert {label: each["num_questions"] for label, each in labels.items()} == LABELS.get(name, {})
        assert summary["rows"][row]["num_unclear"] == sum(not line["is_clear"] for line in own)


SMALL = {"v_niah": ["data.lengths=[4, 8]", "data.depths=[0, 100]"], "vnbench": ["data.num=2"]}
NUM_QUESTIONS = {
    "mlvu": dict.fromkeys(("plotQA", "ego", "count", "order", "anomaly_reco", "topic_reasoning"), 1)
    | {"all": 6},
    "videomme": {"short": 2, "medium": 2, "long": 2, "all": 6},
    "longvideobench": {"15 s": 1, "600 s": 1, "all": 2},
    "lvbench": {"documentary": 2, "all": 2},
    "vnbench": {"ret_edit1": 4, "ret_insert1": 4, "all": 8},
    "v_niah": {"4 frames": 2, "8 frames": 2, "all": 4},
}
LABELS = {
    "mlvu": {"single-detail": 2, "multi-detail": 2, "holistic": 2},
    "videomme": {"Life Record": 6, "Handicraft": 6, "Counting Problem": 3, "OCR Problems": 3},
    "longvideobench": {"E3E": 1, "CC-Cooking": 2, "S2A": 1},
    "lvbench": {"entity recognition": 2, "key information retrieval": 1},
    "vnbench": {"ret": 8},
}


def test_letters_answer_where_nothing_is_generated(releases, tmp_path):
    """On a stock model, with its recipe."""
    settings = {
        "base.backbone.model": str(checkpoint("qwen2_5_vl", tmp_path)),
        "base.oracle": "attention",
        "data": json.dumps({"name": "longvideobench", "dir": str(releases["longvideobench"])}),
        "answers": "letters",
    }
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    out = tmp_path / "out"
    assert main(["eval", str(RECIPES / "qwen2_5_vl.yaml"), "--out", str(out), "--quiet", *sets]) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and {line["prediction"] for line in lines} <= {"(A) milk", "(B) tea", "(C) sugar"}
    assert all(line["is_clear"] for line in lines)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_fits_a_screen(path):
    assert Evaluation.load(path).show_options
    assert max(map(len, path.read_text().splitlines())) <= 110


@pytest.mark.filterwarnings("ignore:.*purple")
def test_what_is_not_there_is_named_with_its_release_and_where_it_was_looked_for(
    releases, tmp_path, monkeypatch
):
    monkeypatch.delenv("X2L_VIDEOMME_DIR", raising=False)
    cases = [
        (
            {},
            r"data.dir: missing, expected the folder of lmms-lab/Video-MME .* \(or set X2L_VIDEOMME_DIR\)",
        ),
        ({"dir": str(tmp_path / "no")}, "no is not a folder, expected that of lmms-lab/Video-MME"),
        (
            {"dir": str(tmp_path)},
            r"test-00000-of-00001.jsonl: not found, expected it from lmms-lab/Video-MME .*looked for ",
        ),
    ]
    for fields, message in cases:
        with pytest.raises(X2LError, match=message):
            make_data({"name": "videomme", **fields}, "data").items()
    (tmp_path / "videomme").mkdir()
    (tmp_path / "videomme/test-00000-of-00001.parquet").touch()
    with pytest.raises(
        X2LError, match=r"parquet is there: save its rows as videomme/test-00000-of-00001.jsonl"
    ):
        read({"videomme": tmp_path}, "videomme")
    (tmp_path / "videomme/test-00000-of-00001.jsonl").symlink_to(
        releases["videomme"] / "videomme/test-00000-of-00001.jsonl"
    )
    item = read({"videomme": tmp_path}, "videomme")[0]
    with pytest.raises(
        X2LError, match=r"data/xXinvented00.mp4: not found, expected it from lmms-lab/Video-MME"
    ):
        item.fingerprint()


def test_a_benchmark_is_not_trained_on(releases):
    with pytest.raises(X2LError, match="name: is a benchmark to measure on"):
        make_data({"name": "lvbench", "dir": str(releases["lvbench"])}, "data").check_training()


@cache
def verdict(said: str, question: Question) -> tuple[bool, bool]:
    """Whether an answer is right, and whether it names an option."""
    return is_right(said, question), names_an_option(said, question)


def line_of(video: str, question: Question, said: str) -> dict:
    """What an evaluation notes of an answer, as far as accuracy goes."""
    return {
        "video": video,
        "question": question.id,
        "group": question.group,
        "kind": question.group,
        "labels": list(question.labels),
        "tries_at": question.tries_at,
        "right": verdict(said, question)[0],
    }


def said_of(option: int, options: tuple[str, ...], rng: random.Random) -> str:
    """An answer as models write it; sometimes one that says nothing."""
    letter, text = "ABCD"[option], options[option]
    named = (
        letter,
        f"{letter}.",
        f"({letter}) {text}",
        f"{letter}) {text}",
        f"The answer is ({letter}) {text}.",
    )
    return rng.choice((*named, ""))


@pytest.fixture
def few_resamples(monkeypatch):
    """Intervals are not what these tests are about."""
    monkeypatch.setattr(bootstrap, "draw", partial(bootstrap.draw, num_resamples=2))


@pytest.mark.filterwarnings("ignore:.*purple")
def test_mlvu_is_scored_by_its_rules_in_1000_files(releases, few_resamples):
    """Macro: the mean over tasks of right / all; micro: right / all; what is said counts by its letter."""
    rng = random.Random(0)
    data = make_data({"name": "mlvu", "dir": str(releases["mlvu"])}, "data")
    questions = [item.questions[0] for item in data.items() if item.questions[0].answer]
    for _ in range(1000):
        verdicts, lines = defaultdict(list), []
        for number in range(12):
            question, said = rng.choice(questions), rng.randrange(4)
            text = said_of(said, question.options, rng)
            assert verdict(text, question)[1] == bool(text)
            verdicts[question.group].append(bool(text) and question.options[said] == question.answer)
            lines.append(line_of(f"{number % 3}.mp4", question, text))
        tally = Tally(lines)
        every = [right for of_task in verdicts.values() for right in of_task]
        assert tally.accuracy(ALL)["mean"] == pytest.approx(fmean(every))
        assert tally.macro()["mean"] == pytest.approx(fmean(map(fmean, verdicts.values())))
        for ability, measured in by_label(lines).items():
            own = [
                right for task, of_task in verdicts.items() if ABILITIES[task] == ability for right in of_task
            ]
            assert measured["accuracy"]["mean"] == pytest.approx(fmean(own))


def test_vnbench_is_scored_by_its_rules_in_1000_files(releases, few_resamples):
    """A video is right if its tries are; a type: videos right / videos; a task: the mean of its types."""
    rng = random.Random(0)
    items = read(releases, "vnbench")
    items += items[:2]  # types of unequal size
    seen = set()
    for _ in range(1000):
        lines, right = [], defaultdict(list)
        for number, item in enumerate(items):
            knows, tries = rng.random() < 0.5, []
            for question in item.questions:
                said = question.options.index(question.answer) if knows else rng.randrange(4)
                text = "ABCD"[said] if knows and number % 2 else said_of(said, question.options, rng)
                tries.append(bool(text) and question.options[said] == question.answer)
                lines.append(line_of(f"{number}.mp4", question, text))
            right[item.questions[0].group].append(all(tries))
        measured = all_tries(lines, [*right, ALL])
        types = {kind: fmean(videos) for kind, videos in right.items()}
        tasks = {
            task: fmean(types[kind] for kind in TYPES if kind.startswith(task))
            for task in ("ret", "ord", "cnt")
        }
        assert {kind: measured["accuracy"][kind]["mean"] for kind in types} == pytest.approx(types)
        by_task = {task: label["macro_accuracy"]["mean"] for task, label in measured["by_label"].items()}
        assert by_task == pytest.approx(tasks)
        assert measured["macro_accuracy"]["mean"] == pytest.approx(fmean(tasks.values()))
        seen.add(fmean(tasks.values()))
    assert len(seen) > 5
