"""What a report is about: the rows of one run or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2l.errors import X2LError
from x2l.evaluation.results import Line
from x2l.evaluation.summary import answered, answered_by_all, of_lines, summary_of


@dataclass(frozen=True)
class Runs:
    """One run or several, on the questions that all of their rows have answered.

    folders, summaries: by name of the run. recipes: by row, which of several runs is called "run: row".
    summary: of all rows, without "rows" where no question has a right answer. lines: of each question, in the
    order of the rows, with the name of their run.
    """

    folders: dict[str, Path]
    summaries: dict[str, dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    lines: list[list[Line]]

    @property
    def rows(self) -> list[str]:
        return list(self.recipes)

    @property
    def title(self) -> str:
        return " and ".join(self.folders)

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Judged claims, those that fail first; one that goes on with another says both."""
        judged, said = [], ""
        for claim in (claim for each in self.summaries.values() for claim in each.get("claims", [])):
            goes_on = claim["say"].startswith("...")
            said = said if goes_on else claim["say"]
            judged.append(claim | {"say": f"{said} {claim['say']}" if goes_on else said})
        return sorted(judged, key=lambda claim: claim["holds"])


def read_runs(paths: Sequence[Path]) -> Runs:
    """Runs from folders that `x2l eval` wrote.

    Raises X2LError if a folder holds no run, or no question is answered by every row of all.
    """
    folders = _named(paths)
    own_lines = {run: answered(folder) for run, folder in folders.items()}
    summaries = {run: summary_of(folder, own_lines[run]) for run, folder in folders.items()}
    recipes, lines = dict[str, dict[str, Any]](), list[Line]()
    for run in folders:
        recipe = summaries[run]["recipe"]
        names = {row: row if len(folders) == 1 else f"{run}: {row}" for row in recipe["rows"]}
        recipes |= {names[row]: recipe.get("base", {}) | own for row, own in recipe["rows"].items()}
        lines += [line | {"row": names[line["row"]], "run": run} for line in own_lines[run]]
    rows = list(recipes)
    lines = answered_by_all(lines, rows)
    if not lines:
        raise X2LError(f"{paths[-1]}: has answered no question of {paths[0]}, expected at least one")
    by_question = [lines[i : i + len(rows)] for i in range(0, len(lines), len(rows))]
    return Runs(folders, summaries, recipes, _of_all(summaries, rows, lines), by_question)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """By the name of the folder; by the whole path where two are called the same."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise X2LError(f"{paths[0]}: is there twice, expected different runs")
    return dict(zip(names, paths, strict=True))


def _of_all(summaries: dict[str, dict[str, Any]], rows: list[str], lines: list[Line]) -> dict[str, Any]:
    first, *others = summaries.values()
    if not others:
        return first
    scored = [line for line in lines if line["right"] is not None]
    return {
        **{name: first[name] for name in ("seeds", "num_resamples")},
        "num_unscored": (len(lines) - len(scored)) // len(rows),
        "broken": list(dict.fromkeys(video for each in summaries.values() for video in each["broken"])),
        **(of_lines(scored, rows, []) if scored else {}),
    }
