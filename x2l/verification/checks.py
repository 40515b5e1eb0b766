"""A check and its verdict; what an earlier one that failed leaves nothing to look at for is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from x2l.errors import X2LError
from x2l.storage.hub import one_line
from x2l.verification.subject import Subject


class NotApplicable(Exception):  # noqa: N818, it is no error
    """There is nothing to check here, and why."""


@dataclass(frozen=True)
class Check:
    """One question to a checkpoint.

    look: what was found, in words; raises X2LError (or anything) where it is wrong, and NotApplicable.
    needs: names of the checks without which this one makes no sense.
    """

    name: str
    look: Callable[[Subject], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    name: str
    status: Literal["pass", "FAIL", "skipped"]
    reason: str


def verdicts(checks: Iterable[Check], subject: Subject) -> Iterator[Verdict]:
    """The verdict of each check as soon as it is known."""
    passed: set[str] = set()
    for check in checks:
        if lacking := [name for name in check.needs if name not in passed]:
            yield Verdict(check.name, "skipped", f"needs {' and '.join(lacking)}")
            continue
        verdict = _verdict(check, subject)
        if verdict.status == "pass":
            passed.add(check.name)
        yield verdict


def _verdict(check: Check, subject: Subject) -> Verdict:
    try:
        return Verdict(check.name, "pass", check.look(subject))
    except NotApplicable as reason:
        return Verdict(check.name, "skipped", str(reason))
    except X2LError as error:
        return Verdict(check.name, "FAIL", str(error))
    except Exception as error:  # whatever a model raises is a verdict on it
        return Verdict(check.name, "FAIL", f"{type(error).__name__}: {one_line(error)}")
