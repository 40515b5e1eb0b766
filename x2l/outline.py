"""What a class of x2l says of itself, read from its source: nothing that its module needs is imported."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

_OWN = "x2l."
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outline:
    """A class: its docstring, and those of its attributes that its body sets.

    An attribute is evaluated when it is asked for. Attributes of other classes that it is made of are read in
    the same way; what else it uses is imported from where it is defined.
    Raises AttributeError for one that neither the class nor one above it sets.
    """

    module: str
    node: ast.ClassDef

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    def lineage(self) -> Iterator[Outline]:
        """The class, and the classes above it that are found in source code."""
        yield self
        for base in self.node.bases:
            if isinstance(base, ast.Name) and isinstance(above := _named(self.module, base.id), Outline):
                yield from above.lineage()

    def __getattr__(self, name: str) -> Any:
        for outline in self.lineage():
            if name in (values := _assigned(outline.node)):
                return _evaluated(values[name], outline.module)
        raise AttributeError(f"{self.module}.{self.node.name} sets no {name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """An instance, for an attribute that is made of one."""
        return getattr(import_module(self.module), self.node.name)(*args, **kwargs)


def outlines(module: str) -> list[Outline]:
    """Of all classes that a module defines."""
    return [Outline(module, node) for node in _source(module).body if isinstance(node, ast.ClassDef)]


def module_doc(module: str) -> str:
    return ast.get_docstring(_source(module)) or ""


@cache
def _source(module: str) -> ast.Module:
    # Looked up by hand: importlib would import the packages that it lies in.
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _assigned(node: ast.ClassDef) -> dict[str, ast.expr]:
    """Right sides of the assignments in a class's body, by name."""
    plain = [(each.targets[0], each.value) for each in node.body if isinstance(each, ast.Assign)]
    annotated = [(each.target, each.value) for each in node.body if isinstance(each, ast.AnnAssign)]
    return {target.id: value for target, value in plain + annotated if value and isinstance(target, ast.Name)}


def _evaluated(expression: ast.expr, module: str) -> Any:
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    code = compile(ast.Expression(expression), module, "eval")
    return eval(code, {}, {name: _named(module, name) for name in names})


def _named(module: str, name: str) -> Any:
    """What a name means in a module: a class is outlined, anything else imported."""
    if hasattr(builtins, name):
        return getattr(builtins, name)
    for node in _source(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Outline(module, node)
        if isinstance(node, ast.ImportFrom):
            for imported in node.names:
                if name == (imported.asname or imported.name):
                    return _from(node.module, imported.name)
    return getattr(import_module(module), name)


def _from(module: str, name: str) -> Any:
    return _named(module, name) if module.startswith(_OWN) else getattr(import_module(module), name)
