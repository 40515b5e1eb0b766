"""Keeps finished runs in recipes/results; from them writes recipes/README.md and a table of docs/results.md.

    x2l eval recipes/table1.yaml --out runs/table1
    python recipes/publish.py runs/table1

Without a run it writes them anew, and draws the figures of all results again. A run's folder must have its
recipe's name.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from x2l.config.settings import read_settings
from x2l.errors import X2LError
from x2l.evaluation.figures import draw
from x2l.evaluation.recipe import Evaluation
from x2l.evaluation.results import RUN, counted
from x2l.evaluation.table import claims_table, commit_of, markdown
from x2l.storage.files import read_json, write_json

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
TRAINING = "training.svg"
FRONT = FOLDER.parent / "docs" / "results.md"
BEGIN, END = "<!-- recipes/results/spine.md -->", "<!-- end -->"
INTRODUCTION = """# Recipes

Each table and figure of the paper that compares methods is a recipe here: a YAML file with the rows, the
questions and the claims that the numbers must bear out. (Table 5 compares two protocols of evaluation and
has none.) Some further recipes answer questions of our own. `x2l eval` measures the files with rows, `x2l
fit` trains the others. [How to reproduce the paper](../docs/reproducing.md) is the way in; recipes of
published benchmarks lie in `benchmarks/` and have [a page of their own](../docs/benchmarks.md).

Everything here is measured on x2l-tiny, the model in the package, and on videos that are drawn from a seed.
It tests the method. It does not repeat the paper's numbers, which need Video-XL-7B and MLVU.
"""
READING = """
Times are those of the runs below, on two CPU cores that other work shared.

## How to run them

`x2l eval` writes every answer, a summary, the table and its figures. A run that was stopped goes on where
it was. `--quick` takes two minutes and `--smoke` ten seconds. `--set` overrides any field: another backbone
is `--set base.backbone.name=video_xl --set base.backbone.model=FOLDER`, and one without VSTs also takes
`--set base.compressor.name=mean_pool`. [All keys](../docs/evaluation.md) of these files are on a page of
their own. The tables share their videos in `runs/needles24`, which the first one writes.

`train_tiny.yaml` trains the embedded model and `train_dual_encoder.yaml` its relevance oracle.
`post_training_4k.yaml` and `lora.yaml` train that model further. `train_plain.yaml` trains a model without
VSTs, to which `vst_from_qwen2.yaml` gives some ([how](../docs/post_training.md)). Another run of
`train_tiny.yaml` (seed 2) gives the spine's accuracies within 0.03 on all questions, not on number alone:
[second_training](results/second_training.md).

## How to read them

* **Intervals** are 95 % and resample videos.
* **A claim holds** if its point estimate reaches the bar. "Clearly" asks for a gap of 0.15 or more whose
  paired interval excludes 0; "above 0 with its interval" asks for that interval alone. Claims that do not
  hold stay, in bold; [limits](../docs/limits.md) has them with their reasons.
* **Model and videos.** x2l-tiny was trained on videos of this kind, with other footage and seeds. The dual
  encoder was trained on the words of these questions, where the paper's SigLIP was not. [What is asked of
  which videos](../docs/needles.md).
* **Chunks.** Scenes last 10 s and a chunk is 10 frames at one per second, so every chunk is exactly one
  scene, unless a row says otherwise (some of chunk_size and control do).
* **Ends.** Rows with VSTs keep the first and the last chunk at 2x, "uniform" ones too, unless `edge_ratio`
  says otherwise (chunk_size, table6, clustered and default rows), and `gist_ratio: 0` drops every chunk that
  was not chosen, the ends too ("gold chunk alone 2x" of table1).
* **The annotated oracle** knows where details, pairs and questions of order are seen; for the others it
  re-loads nothing.

The numbers are copied from the runs by `python recipes/publish.py RUN ...`.
"""
FITS = {
    "lora": "lora",
    "post_training_4k": "post",
    "train_dual_encoder": "dual_encoder",
    "train_plain": "plain",
    "train_tiny": "tiny",
    "vst_from_qwen2": "vst",
}
"""Runs that recipes of trainings leave."""
NOT_MEASURED = "not measured"
TIMES = {
    "chunk_size": "56 min",
    "compressors": "100 min",
    "control": "25 min",
    "fig2": "46 min",
    "fig3": "16 min",
    "k_robust": "17 min",
    "lora": "92 min",
    "lora_gain": "18 min",
    "one_pass": "41 min",
    "packed": "13 min",
    "post_training_4k": "47 min; at 2x 33 min",
    "second_training": "22 min",
    "selectors": "16 min",
    "spine": "20 min",
    "table1": "30 min",
    "table2": "36 min",
    "table3": "75 min",
    "table4": "46 min",
    "table6": "20 min",
    "train_dual_encoder": "12 min",
    "train_plain": "two hours",
    "train_tiny": "four hours",
    "timestamps": "12 min",
    "vst_from_qwen2": "30 min",
    "vst_gain": "10 min",
}
"""How long they ran, the trainings before them not counted."""


def recipes() -> list[Path]:
    """Every recipe, those of open questions last."""
    return [*sorted(FOLDER.glob("*.yaml")), *sorted(FOLDER.glob("open_questions/*.yaml"))]


def recipe_of(run: Path) -> Path | None:
    """The recipe that a run is called after."""
    return next((path for path in recipes() if path.stem == run.name), None)


def check(run: Path) -> None:
    """Raise X2LError for a folder that is no finished run of its recipe as it stands, at full size."""
    recipe = recipe_of(run)
    summary = read_json(run / "summary.json")
    evaluation = Evaluation.load(recipe) if recipe else None
    if evaluation is None or summary["recipe_hash"] != evaluation.hash():
        raise X2LError(f"{run}: expected a run of recipes/{run.name}.yaml as it is now")
    if summary["recipe"].get("claims", []) != evaluation.mapping.get("claims", []):
        raise X2LError(
            f"{run}: was judged by other claims, expected `x2l eval` once more, which answers nothing"
        )
    if summary["is_dirty"]:
        raise X2LError(f"{run}: expected a run of committed code")
    there, expected = len(counted(run)), read_json(run / RUN)["num_answers"]
    if there != expected:
        raise X2LError(f"{run}: is not finished, expected {expected} answers, got {there}")


def publish(run: Path) -> None:
    """Copy what a run says, without its videos and answers, and without where those videos lay."""
    summary = read_json(run / "summary.json")
    data = Evaluation.load(recipe_of(run)).mapping["data"]
    recipe = summary["recipe"] | {"data": data}
    write_json(RESULTS / f"{run.name}.json", summary | {"recipe": recipe})
    shutil.copy(run / "table.md", RESULTS / f"{run.name}.md")
    redraw(RESULTS / f"{run.name}.json")
    for training in trainings(recipe):
        for file in (TRAINING, "val.jsonl"):
            if (training / file).is_file():
                shutil.copy(training / file, RESULTS / f"{run.name}-{training.name}-{file}")


def redraw(summary: Path) -> None:
    """Draw the figures of a published summary beside it."""
    with TemporaryDirectory() as folder:
        draw(read_json(summary), Path(folder))
        for path in Path(folder).iterdir():
            shutil.copy(path, RESULTS / f"{summary.stem}-{path.name}")


def trainings(recipe: dict[str, Any]) -> list[Path]:
    """Runs of `x2l fit` whose weights the rows of an evaluation load, or the pipeline of a training."""
    parts = recipe["rows"].values() if "rows" in recipe else [recipe.get("pipeline", {})]
    backbones = [part.get("backbone") for part in parts]
    models = [
        backbone["model"] for backbone in backbones if isinstance(backbone, dict) and "model" in backbone
    ]
    return list(dict.fromkeys(Path(model).parent for model in models))


def readme() -> str:
    """All of README.md."""
    measured = [path for path in recipes() if path.stem not in FITS]
    parts = [INTRODUCTION.strip(), files_table(), READING.strip(), *map(section, measured)]
    return "\n\n".join(parts) + "\n"


def files_table() -> str:
    """Every recipe: its command, the trainings whose weights it loads, how long it ran."""
    rows = []
    for path in recipes():
        is_training = path.stem in FITS
        command, out = ("fit", FITS[path.stem]) if is_training else ("eval", path.stem)
        needs = ", ".join(f"`{run}`" for run in trainings(read_settings(path)))
        file = path.relative_to(FOLDER)
        name = path.name if is_training else f"[{file}](#{path.stem})"
        shown = f"`x2l {command} recipes/{file} --out runs/{out}`"
        rows.append([name, shown, needs, TIMES.get(path.stem, NOT_MEASURED)])
    return "\n".join(markdown(["file", "command", "needs", "time"], rows))


def front() -> str:
    """All of docs/results.md, with the spine's table as it was measured last."""
    before, rest = FRONT.read_text().split(BEGIN)
    table, _, _ = (RESULTS / "spine.md").read_text().partition("\n\n")
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def section(recipe: Path) -> str:
    """What a recipe shows: its opening comment, its claims, where its table is."""
    name, lines = recipe.stem, recipe.read_text().splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    command = f"    x2l eval recipes/{recipe.relative_to(FOLDER)} --out runs/{name}"
    parts = [f"## {name}", " ".join(comment), command]
    summary_path = RESULTS / f"{name}.json"
    if not summary_path.is_file():
        return "\n\n".join([*parts, "Not measured yet."])
    summary = read_json(summary_path)
    if summary.get("claims"):
        parts.append("\n".join(claims_table(summary["claims"])))
    if (figure := RESULTS / f"{name}-{figure_of(name)}.svg").is_file():
        parts.append(f"![{name}](results/{figure.name})")
    for training in trainings(summary["recipe"]):
        if (curve := RESULTS / f"{name}-{training.name}-{TRAINING}").is_file():
            parts.append(f"How `{training}` was trained:\n\n![{training.name}](results/{curve.name})")
    asked = f"{summary['num_videos']} videos, {summary['num_questions']['all']} questions in each row"
    where = f"{summary['date'][:10]}, {', '.join(summary['devices'])}, {commit_of(summary)}"
    parts.append(f"[The whole table](results/{name}.md): {asked}; {where}.")
    return "\n\n".join(parts)


def figure_of(name: str) -> str:
    """The figure that shows a recipe best."""
    kinds = [kind for kind in ("heatmap", "curve") if (RESULTS / f"{name}-{kind}.svg").is_file()]
    return (kinds or ["tradeoff"])[0]


if __name__ == "__main__":
    try:
        for given in sys.argv[1:]:
            check(Path(given))
    except X2LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for given in sys.argv[1:]:
        publish(Path(given))
    for summary in sorted(RESULTS.glob("*.json")) if len(sys.argv) == 1 else ():
        redraw(summary)
    (FOLDER / "README.md").write_text(readme())
    FRONT.write_text(front())
