"""The page of a report."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from x2l.drawing.timeline import GOLD, SCORE, STYLE, level, swatch
from x2l.evaluation.columns import columns
from x2l.evaluation.report import figures
from x2l.evaluation.report.differences import differences
from x2l.evaluation.report.runs import Runs, read_runs
from x2l.evaluation.report.templates import rendered, verbatim
from x2l.evaluation.summary import HASHES
from x2l.evaluation.table import commit_of, further_tables, left_out, measured, notes, signed, tables_of_tries
from x2l.storage.files import write_text

FEW = 10
"""Videos; of fewer an interval, which resamples them, says next to nothing."""


def write_report(runs: Sequence[Path], out: Path, progress: bool = False) -> None:
    """Write one run, or several on the questions that all have answered, as one HTML file below 10 MB.

    Raises X2LError if a folder holds no run, no question is answered by all, or the file cannot be written.
    """
    write_text(out, page(read_runs(runs), progress))


def page(runs: Runs, progress: bool = False) -> str:
    """The HTML, with everything that it shows in it."""
    recipes = {run: each["recipe"] for run, each in runs.summaries.items()}
    return rendered(
        "page.html",
        title=runs.title,
        style=verbatim("style.css") + Markup(STYLE),
        script=verbatim("page.js"),
        rows=[{"name": name, **figures.look(i)} for i, name in enumerate(runs.rows)],
        num_videos=len({lines[0]["video"] for lines in runs.lines}),
        num_questions=len(runs.lines),
        few=FEW,
        claims=[claim | {"measured": measured(claim)} for claim in runs.claims],
        own_figures=_own_figures(runs),
        differing=differences(runs, progress),
        legend=_legend(runs),
        sources={run: _source(each) for run, each in runs.summaries.items()},
        recipes={run: yaml.safe_dump(recipe, sort_keys=False) for run, recipe in recipes.items()},
        **_numbers(runs.summary),
    )


def _numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """What follows from right and wrong answers; notes alone where no question has a right one."""
    if "rows" not in summary:
        return {"columns": [], "notes": left_out(summary), "figures": {}, "tables": [], "gaps": {}}
    return {
        "columns": columns(summary),
        "notes": notes(summary),
        "figures": {"accuracy": figures.accuracy(summary), "tradeoff": figures.tradeoff(summary)},
        "tables": [*tables_of_tries(summary), *further_tables(summary)],
        "gaps": _gaps(summary),
    }


def _gaps(summary: dict[str, Any]) -> dict[str, list[list[str]]]:
    """By group, what the row of a number gains over that of another."""
    rows, differences_of = list(summary["rows"]), summary["differences"]
    return {
        group: [
            ["" if one == other else signed(differences_of[one][other][group]) for other in rows]
            for one in rows
        ]
        for group in summary["num_questions"]
    }


def _legend(runs: Runs) -> list[tuple[Markup, str]]:
    """Of the time lines: how each level that chunks are on is drawn, and what else there is."""
    ratios = {ratio for lines in runs.lines for line in lines for ratio in line["plan"]}
    levels = [(swatch(ratio), level(ratio)) for ratio in sorted(ratios, key=lambda x: x or math.inf)]
    return [*levels, (SCORE, "score of the oracle"), (GOLD, "holds the answer")]


def _source(summary: dict[str, Any]) -> dict[str, str]:
    """Where the numbers of a run come from; date and versions are those of its last session."""
    seeds, weights = summary["seeds"], dict.fromkeys(map(str, summary["backbones"].values()))
    num_sessions, num_threads = summary["num_sessions"], summary["num_threads"]
    return {
        "commit": commit_of(summary),
        "date": f"{summary['date']}, session {num_sessions} of the run",
        "devices": f"{', '.join(summary['devices'])}; threads of the CPU: {num_threads}",
        "versions": ", ".join(f"{name} {number}" for name, number in summary["versions"].items()),
        "seeds": ", ".join(f"{name} {seed}" for name, seed in seeds.items() if seed is not None),
        "weights": ", ".join(weights),
        **{name.replace("_", " "): summary[name] for name in HASHES},
    }


def _own_figures(runs: Runs) -> dict[str, str]:
    """The figures that recipes ask for, as data URLs, where the runs have drawn them."""
    drawn = {}
    for name, folder in runs.folders.items():
        kind = (runs.summaries[name]["recipe"].get("figure") or {}).get("kind")
        if kind and (path := folder / f"{kind}.svg").is_file():
            drawn[f"{name}: {kind}"] = (
                f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
            )
    return drawn
