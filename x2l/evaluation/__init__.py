"""Evaluation: every row of a recipe answers the same questions about the same videos.

recipe -> rows of Pipelines -> results.jsonl -> summary.json, table.md
"""

from x2l.evaluation.runner import run as run
from x2l.evaluation.summary import summarise as summarise
