"""The templates of a report; what they are given is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"


def rendered(template: str, **given: Any) -> Markup:
    """A template of the folder `templates` as markup."""
    return Markup(_environment().get_template(template).render(given).strip())


def verbatim(name: str) -> Markup:
    """A file of that folder as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
