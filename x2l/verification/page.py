"""One page about a checkpoint: where it was verified, verdicts, figures; as text and as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch

from x2l import registry
from x2l.evaluation.provenance import session
from x2l.verification.checks import Verdict
from x2l.verification.subject import Subject


@dataclass
class Page:
    """What is known of a subject; verdicts are added as they are found."""

    subject: Subject
    verdicts: list[Verdict] = field(default_factory=list)

    @cached_property
    def session(self) -> dict[str, Any]:
        """Date, device and versions."""
        return session([torch.device(self.subject.device)])

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [verdict.name for verdict in self.verdicts if verdict.status == "FAIL"]

    def data(self) -> dict[str, Any]:
        """The page as JSON holds it. identity: of the weights; None if they could not be loaded."""
        subject = self.subject
        is_loaded = any(verdict.name == "weights" and verdict.status == "pass" for verdict in self.verdicts)
        return {
            "model": str(subject.folder),
            "backbone": registry.name_of(subject.backbone_class),
            "identity": subject.backbone.identity if is_loaded else None,
            "dtype": subject.dtype,
            **self.session,
            "video": subject.video.fingerprint(),
            "question": subject.question.text,
            "passed": not self.failed,
            "checks": [asdict(verdict) for verdict in self.verdicts],
            "figures": [asdict(figure) for figure in subject.figures],
        }

    def head(self) -> str:
        """What is verified, where, and on what."""
        subject, video, facts = self.subject, self.subject.video, self.session
        height, width = video.frames.shape[1:3]
        lines = {
            "model": f"{subject.folder} as {registry.name_of(subject.backbone_class)}",
            "on": f"{', '.join(facts['devices'])}, {subject.dtype}, {facts['date']}",
            "with": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
            "video": f"{video.num_frames} frames of {video.path.name}, {width} x {height}",
        }
        return "\n".join(f"{name:9}{line}" for name, line in lines.items())

    def figures(self) -> str:
        """A table; empty where nothing was measured."""
        rows = [
            f"{figure.name:34}{figure.unit:10}{_number(figure.measured):>16}{_number(figure.estimated):>16}"
            for figure in self.subject.figures
        ]
        return "\n".join([f"{'':44}{'measured':>16}{'x2l estimate':>16}", *rows]) if rows else ""


def verdict_line(verdict: Verdict) -> str:
    return f"{verdict.status:9}{verdict.name:13}{verdict.reason}"


def _number(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
