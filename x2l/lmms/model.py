"""The model itself, which is imported when it is chosen. Needs lmms-eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms

from x2l import registry
from x2l.errors import X2LError, require
from x2l.lmms.answers import Request, answers
from x2l.lmms.arguments import recipe_from
from x2l.lmms.generation import generation_from
from x2l.recipe import build_pipeline


class X2L(lmms):
    """Answers a task's prompts, unchanged, about its videos.

    recipe, row: a recipe of `x2l ask`, or a row of one of `x2l eval`; default: as `x2l ask` answers.
    plugin: Python that registers methods. overrides: fields of the recipe, such as {"selector.k": 3}.
    Raises X2LError naming the argument that is wrong.
    """

    def __init__(
        self,
        recipe: str | None = None,
        row: Any = None,
        plugin: str | None = None,
        device: str | None = None,
        batch_size: Any = 1,
        **overrides: Any,
    ):
        super().__init__()
        require(str(batch_size) == "1", "batch_size", "1, questions are asked one by one", batch_size)
        if plugin is not None:
            registry.load_plugin(plugin)
        placed = {} if device is None else {"backbone.device": device}
        row = None if row is None else str(row)  # lmms-eval makes a number of the row "2"
        self._pipeline = build_pipeline(recipe_from(recipe, row, placed | overrides))

    @property
    def device(self) -> torch.device:
        return self._pipeline.backbone.device

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """One answer for each request, in their order. Raises X2LError unless each is about one video."""
        asked = [self._request(*request.args) for request in requests]
        return answers(self._pipeline, asked, progress=self.rank == 0)

    def _request(
        self,
        prompt: str,
        generation: dict[str, Any],
        to_visual: Callable[[Any], Any],
        number: int,
        task: str,
        split: str,
    ) -> Request:
        visual = to_visual(self.task_dict[task][split][number])
        if not (isinstance(visual, list) and len(visual) == 1 and isinstance(visual[0], str | Path)):
            kinds = ", ".join(sorted({type(each).__name__ for each in visual or ()})) or "none"
            raise X2LError(f"{task}, question {number}: expected the path of one video, got {kinds}")
        return Request(str(visual[0]), prompt, generation_from(generation))

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        raise X2LError("loglikelihood: is not offered, expected a task that generates")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        raise X2LError("generate_until_multi_round: is not offered, expected a task of one round")
