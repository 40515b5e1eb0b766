"""Stock lmms-eval gets the number that `x2l eval` gets."""

import json
from pathlib import Path

import pytest
import yaml

from x2l.needles.dataset import read_dataset, write_dataset
from x2l.recipe import RECOMMENDED
from x2l.types import Question

pytestmark = pytest.mark.slow

TASKS = ("anomaly_reco", "count", "ego", "needle", "order", "plotQA", "topic_reasoning")
"""Those of MLVU, of which lmms-eval's score is the mean."""
LETTERED = '''
import x2l
from x2l.backbones.x2l_tiny import X2LTiny
from x2l.matching import chosen, listed


@x2l.register("lettered")
class Lettered(X2LTiny):
    """Tells the letter of the option that x2l-tiny reads, which knows no letters."""

    def encode_question(self, question):
        self.options = listed(question.text)
        return super().encode_question(question)

    def generate(self, ids, cache, **options):
        number = chosen(super().generate(ids, cache, **options), self.options)
        return "Unclear." if number is None else f"The answer is ({'ABCD'[number]})."
'''
ROWS = {
    "as x2l ask": RECOMMENDED,
    "two chunks": RECOMMENDED | {"selector": {"name": "top_k", "k": 2}},
    "lettered": RECOMMENDED | {"backbone": "lettered"},
}
TASK = """
dataset_path: json
test_split: test
output_type: generate_until
doc_to_visual: !function functions.mlvu_doc_to_visual_dev
doc_to_text: !function functions.mlvu_doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 4, temperature: 0, top_p: 1.0, num_beams: 1, do_sample: false}
"""
METRICS = {
    "plain": """
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]
""",
    "letters": """
process_results: !function functions.mlvu_process_results
metric_list:
  - metric: mlvu_percetion_score
    aggregation: !function functions.mlvu_aggregate_results_dev
    higher_is_better: true
""",
}
SCORES = {"plain": "exact_match,none", "letters": "mlvu_percetion_score,none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Needle videos and questions in two styles, as both harnesses read them; their order mixes videos."""
    folder = tmp_path_factory.mktemp("harness")
    kinds = {"detail": 4, "exist": 1, "count": 1, "before": 1}
    write_dataset(folder / "needles", 3, 11, 6, questions=kinds, fps=1.0)
    asked = [[(path.name, question) for question in row] for path, row in read_dataset(folder / "needles")]
    mixed = [each for row in zip(*asked, strict=True) for each in row]
    write(folder, "plain", [(video, question.text, question.answer) for video, question in mixed])
    write(folder, "letters", [(video, *with_letters(question)) for video, question in mixed])
    (folder / "mlvu").symlink_to(folder / "needles" / "videos")
    (folder / "functions.py").write_text("from lmms_eval.tasks.mlvu.utils import *\n")
    (folder / "lettered.py").write_text(LETTERED)
    return folder


def with_letters(question: Question) -> tuple[str, str]:
    """A question as MLVU's records of lmms-eval have it: its options in the text, a letter for an answer."""
    letter = question.letters[question.options.index(question.answer)]
    return "\n".join([question.text, *question.lettered_options]), letter


def write(folder: Path, name: str, asked: list[tuple[str, str, str]]) -> None:
    """A task of lmms-eval and a recipe over the same questions."""
    records = [
        {"video": video, "video_name": video, "question": text, "answer": answer, "id": f"{task}-{number}"}
        | {"group": task, "task_type": task}
        for number, (video, text, answer) in enumerate(asked)
        for task in [TASKS[number % len(TASKS)]]
    ]
    (folder / name).mkdir()
    (folder / name / "questions.json").write_text(json.dumps(records))
    (folder / name / "videos").symlink_to(folder / "needles" / "videos")
    files = f"dataset_kwargs: {{data_files: {{test: {folder / name / 'questions.json'}}}}}\n"
    (folder / f"{name}_task.yaml").write_text(f"task: {name}{TASK}{files}{METRICS[name]}")
    rows = {row: recipe for row, recipe in ROWS.items() if (row == "lettered") == (name == "letters")}
    recipe = {"data": {"name": "folder", "dir": str(folder / name)}, "rows": rows}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def by_x2l(programs, folder: Path, name: str, row: str, *options) -> tuple[dict, list[str]]:
    """The numbers of a row, and its answers in the order of the questions."""
    out = folder / "runs" / name
    programs("x2l", "eval", folder / f"{name}.yaml", "--out", out, "--quiet", *options)
    summary = json.loads((out / "summary.json").read_text())["rows"][row]
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    said = {int(x["question"].rpartition("-")[2]): x["prediction"] for x in lines if x["row"] == row}
    return summary, [said[number] for number in sorted(said)]


def by_lmms_eval(programs, folder: Path, name: str, *options) -> tuple[float, list[str]]:
    """The one number of a task, and its answers."""
    out = folder / "lmms" / name / str(len(options))
    command = [*("--model", "x2l", "--tasks", name, "--include_path", folder), *options]
    command += ["--log_samples", "--output_path", out]
    told = programs("lmms-eval", *command, HF_HUB_OFFLINE="1", HF_HOME=str(folder))
    assert "Error during evaluation" not in told, told[-4000:]  # its exit code is 0 then, too
    (results,) = out.rglob("*_results.json")
    (samples,) = out.rglob(f"*_samples_{name}.jsonl")
    numbers = json.loads(results.read_text())["results"][name]
    lines = map(json.loads, samples.read_text().splitlines())
    said = {line["doc_id"]: line["filtered_resps"] for line in lines}
    return numbers[SCORES[name]], [said[i] for i in sorted(said)]


@pytest.mark.parametrize(
    ("row", "options"),
    [("as x2l ask", []), ("two chunks", ["--model_args", "selector.k=2"])],
    ids=["default", "overridden"],
)
def test_it_gets_the_number_of_x2l_eval(programs, folder, row, options):
    summary, expected = by_x2l(programs, folder, "plain", row)
    number, said = by_lmms_eval(programs, folder, "plain", *options)
    assert said == expected and len(set(said)) > 4
    assert number == pytest.approx(summary["accuracy"]["all"]["mean"], abs=1e-12)
    assert number > 0.3


def test_letters_are_read_alike(programs, folder):
    plugin = ["--plugin", folder / "lettered.py"]
    summary, expected = by_x2l(programs, folder, "letters", "lettered", *plugin)
    arguments = f"recipe={folder / 'letters.yaml'},row=lettered,plugin={folder / 'lettered.py'}"
    number, said = by_lmms_eval(programs, folder, "letters", "--model_args", arguments)
    assert said == expected and any(text.startswith("The answer is (B)") for text in said)
    assert number == pytest.approx(100 * summary["macro_accuracy"]["mean"], abs=1e-9)
    assert 30 < number < 100
