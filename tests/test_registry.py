"""Methods by name: lookup, specs with their checks, decorator, plugins and entry points."""

import inspect
import subprocess
import sys
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
import yaml
from specs import spec

from x2l import registry
from x2l.config.fields import convert
from x2l.interfaces import Backbone, Compressor, Oracle, Selector
from x2l.types import DROPPED, Plan, X2LError


@pytest.fixture(autouse=True)
def _forget_registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {slot: {} for slot in registry.SLOTS})


@pytest.fixture
def similar():
    """A registered oracle with a field of every common kind."""

    @registry.register("similar")
    @dataclass
    class Similar(Oracle):
        """Scores by likeness.

        Source: a paper, section 3.
        """

        requires: ClassVar[frozenset[str]] = frozenset()
        similarity: Literal["dot", "cosine"] = "dot"
        layers: int | None = None
        scale: float = 1.0
        normalise: bool = False
        sizes: tuple[int, ...] = (1, 2)
        folder: Path | None = None

        def score(self, question, index, backbone):
            return torch.zeros(len(index.chunks))

    return Similar


@pytest.fixture
def ensemble(similar):
    @registry.register
    @dataclass
    class MeanOfOracles(Oracle):
        oracles: list[Oracle] = field(default_factory=list)
        fallback: Oracle | None = None

        def score(self, question, index, backbone):
            return None

    return MeanOfOracles


def error_of(call, *args) -> str:
    with pytest.raises(X2LError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def all_methods():
    return [(slot, name) for slot in registry.SLOTS for name in registry.names(slot)]


@pytest.mark.parametrize(("slot", "name"), all_methods())
def test_every_shipped_method_is_one_documented_class(slot, name):
    cls = registry.get(slot, name)
    assert registry.name_of(cls) == name
    line, _ = registry.summary(slot, name)
    assert line and len(line) < 120


@pytest.mark.parametrize("slot", list(registry.SLOTS))
def test_the_outline_of_a_shipped_class_says_what_the_class_does(slot):
    for name in registry.names(slot):
        cls, outline = registry.get(slot, name), registry.outline(slot, name)
        assert outline.node.name == cls.__name__ and outline.doc == inspect.getdoc(cls)
        assert registry.required(outline) == registry.required(cls)
        for attribute in ("provides", "sizes", "network_parts", "built_from", "nothing"):
            assert getattr(outline, attribute, None) == getattr(cls, attribute, None), attribute


@pytest.mark.parametrize(("slot", "name"), all_methods())
def test_describe_is_the_inverse_of_build_for_shipped_methods(slot, name):
    if slot in ("backbone", "data"):
        pytest.skip("a backbone is built from weights, data from fields that must be given")
    method = registry.build(slot, spec(slot, name))
    assert registry.build(slot, registry.describe(method)) == method


def test_names_import_neither_methods_nor_torch():
    code = (
        "import sys, x2l.registry as r; assert 'vst' in r.names('compressor');"
        "sys.exit('torch' in sys.modules or 'x2l.compressors.vst' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_helpers_are_not_methods():
    assert not [name for _, name in all_methods() if name.startswith("_")]


def test_unknown_name_lists_known_and_closest(similar):
    message = error_of(registry.build, "oracle", "similr")
    assert "oracle 'similr'" in message and "did you mean 'similar'?" in message
    assert "did you mean 'oracle'?" in error_of(registry.names, "orcale")


def test_build_takes_instance_name_or_mapping(similar):
    instance = similar(scale=2.0)
    assert registry.build("oracle", instance) is instance
    assert registry.build("oracle", "similar") == similar()
    built = registry.build("oracle", {"name": "similar", "scale": 3, "sizes": [4], "folder": "a/b"})
    assert built == similar(scale=3.0, sizes=(4,), folder=Path("a/b"))
    assert isinstance(built.scale, float)


@pytest.mark.parametrize(("text", "number"), [("1e-5", 1e-5), ("-2.5E3", -2500.0), ("3.e2", 300.0)])
def test_what_yaml_takes_for_text_is_a_number_where_one_is_expected(text, number):
    assert yaml.safe_load(text) == text
    assert convert(text, float, "lr", lambda _: None) == number
    assert convert(text, str, "name", lambda _: None) == text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"similarty": "dot"}, ["oracle.similarty", "similarity", "did you mean 'similarity'?"]),
        ({"similarity": "l2"}, ["oracle.similarity", "dot or cosine", "'l2'"]),
        ({"layers": 1.5}, ["oracle.layers", "int", "1.5"]),
        ({"layers": True}, ["oracle.layers", "int", "True"]),
        ({"scale": "1"}, ["oracle.scale", "float", "'1'"]),
        ({"normalise": 1}, ["oracle.normalise", "bool", "1"]),
        ({"sizes": 3}, ["oracle.sizes", "3"]),
        ({"sizes": [1, "b"]}, ["oracle.sizes.1", "int", "'b'"]),
    ],
)
def test_wrong_fields_are_named_with_their_path(similar, fields, expected):
    spec = {"name": "similar", **fields}
    message = error_of(registry.build, "oracle", spec)
    assert all(part in message for part in expected), message
    assert error_of(registry.check, "oracle", spec) == message


@pytest.mark.parametrize("spec", [3, None, {}, {"name": 3}, ["similar"]])
def test_a_spec_needs_a_name(spec):
    assert error_of(registry.build, "oracle", spec).startswith("oracle: expected a name or a mapping")


def test_nested_specs_build_and_describe(ensemble, similar):
    spec = {"name": "mean_of_oracles", "oracles": ["similar", {"name": "similar", "scale": 2}]}
    method = registry.build("oracle", spec | {"fallback": "similar"})
    assert method == ensemble(oracles=[similar(), similar(scale=2.0)], fallback=similar())
    description = registry.describe(method)
    assert description["oracles"][1]["scale"] == 2.0 and description["fallback"]["sizes"] == [1, 2]
    assert registry.build("oracle", description) == method


def test_nested_errors_carry_the_whole_path(ensemble):
    spec = {"name": "mean_of_oracles", "oracles": ["similar", {"name": "similar", "scle": 2}]}
    assert "oracle.oracles.1.scle" in error_of(registry.build, "oracle", spec)
    assert "oracle.oracles.1.scle" in error_of(registry.check, "oracle", spec)
    assert "oracle.fallback" in error_of(
        registry.build, "oracle", {"name": "mean_of_oracles", "fallback": {"scale": 1}}
    )


def test_check_builds_nothing(similar):
    @registry.register
    @dataclass
    class Heavy(Oracle):
        inner: Oracle

        def __post_init__(self):
            raise AssertionError("was built")

        def score(self, question, index, backbone):
            return None

    registry.check("oracle", {"name": "heavy", "inner": {"name": "similar"}})
    assert "oracle.inner: missing" in error_of(registry.check, "oracle", "heavy")


def test_a_duplicate_name_raises_naming_both(similar):
    def another():
        @registry.register("similar")
        @dataclass
        class Another(similar):
            pass

    message = error_of(another)
    assert "Similar" in message and "Another" in message

    def shipped():
        registry.register("vst")(type("Mine", (Compressor,), {}))

    assert "x2l.compressors.vst" in error_of(shipped)


def test_running_a_notebook_cell_twice_is_fine():
    for default in (1, 2):

        @registry.register
        @dataclass
        class CellSelector(Selector):
            k: int = default

            def choose(self, scores, index):
                return Plan((DROPPED,) * len(index.chunks))

    assert registry.build("selector", "cell_selector").k == 2


def test_register_refuses_other_classes():
    assert "Backbone, Compressor, Oracle, Selector" in error_of(registry.register, int)


def test_a_forgotten_dataclass_decorator_is_reported():
    @registry.register
    class NoDecorator(Selector):
        share: float = 0.5

        def choose(self, scores, index):
            return Plan((DROPPED,) * len(index.chunks))

    assert "decorate the class with @dataclass" in error_of(registry.build, "selector", "no_decorator")


def test_fields_by_keyword_only_are_fields():
    @registry.register
    @dataclass
    class Keywords(Selector):
        _: KW_ONLY
        share: float = 0.5

        def choose(self, scores, index):
            return Plan((DROPPED,) * len(index.chunks))

    assert registry.build("selector", {"name": "keywords", "share": 0.25}).share == 0.25


def test_fields_that_are_not_plain_data_cannot_be_described():
    @registry.register
    @dataclass
    class Calls(Selector):
        function: object = print

        def choose(self, scores, index):
            return Plan((DROPPED,) * len(index.chunks))

    assert "function" in error_of(registry.describe, Calls())


def test_backbones_are_built_by_from_pretrained_and_described_by_their_fields():
    class Echo(Backbone):
        """Remembers how it was built."""

        @classmethod
        def from_pretrained(cls, model: str | None = None, *, device: str = "cpu", dtype: str = "float32"):
            echo = cls()
            echo.built_with = (model, device, dtype)
            return echo

    Echo.__abstractmethods__ = frozenset()
    registry.register(Echo)
    spec = {"name": "echo", "model": "folder", "dtype": "bfloat16"}
    echo = registry.build("backbone", spec)
    assert echo.built_with == ("folder", "cpu", "bfloat16")
    assert registry.describe(echo) == spec
    assert registry.describe(Echo()) == {"name": "echo"}
    assert "did you mean 'device'?" in error_of(registry.build, "backbone", {"name": "echo", "devise": "cpu"})


def test_a_backbone_may_be_a_dataclass_and_needs_from_pretrained_only_by_name():
    @dataclass
    class Sized(Backbone):
        size: int = 1

    Sized.__abstractmethods__ = frozenset()
    registry.register(Sized)
    assert "from_pretrained" in error_of(registry.build, "backbone", {"name": "sized", "size": 2})
    Sized.from_pretrained = classmethod(lambda cls, size=1: cls(size))
    assert registry.describe(registry.build("backbone", {"name": "sized", "size": 2}))["size"] == 2


def test_summary_reads_the_docstring(similar, ensemble):
    assert registry.summary("oracle", "similar") == ("Scores by likeness.", "a paper, section 3.")
    line, source = registry.summary("oracle", "mean_of_oracles")
    assert "MeanOfOracles(" not in line and source == ""


PLUGIN = """
from __future__ import annotations
from dataclasses import dataclass
from x2l import register
from x2l.interfaces import Oracle

@register
@dataclass
class {name}(Oracle):
    weight: float = 1.0
    def score(self, question, index, backbone):
        return None
"""


def test_a_plugin_file_registers_its_classes_once(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(name="MyOwnOracle"))
    registry.load_plugin(plugin)
    registry.load_plugin(plugin)
    method = registry.build("oracle", {"name": "my_own_oracle", "weight": 2})
    assert registry.describe(method) == {"name": "my_own_oracle", "weight": 2.0}


def test_a_plugin_that_is_missing_or_broken_is_named(tmp_path):
    assert "no such file" in error_of(registry.load_plugin, tmp_path / "absent.py")
    assert "no_such_module_x2l" in error_of(registry.load_plugin, "no_such_module_x2l")
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('two\\nlines')")
    missing = tmp_path / "missing.py"
    missing.write_text("open('its_own_data.txt')")
    assert "its_own_data.txt" in error_of(registry.load_plugin, missing)
    message = error_of(registry.load_plugin, broken)
    assert "broken.py" in message and "RuntimeError: two lines" in message


def test_entry_points_of_installed_packages_are_methods(tmp_path, monkeypatch):
    info = tmp_path / "other_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[x2l.oracles]\nfrom_elsewhere = other_package:FromElsewhere\nabsent = other_package:Absent\n"
        "broken = broken_package:Broken\n"
    )
    # As packages do, it names the class where it is imported from, not where it is defined.
    (tmp_path / "other_package.py").write_text("from other_private import FromElsewhere\n")
    (tmp_path / "other_private.py").write_text(PLUGIN.format(name="FromElsewhere").replace("@register\n", ""))
    (tmp_path / "broken_package.py").write_text("def")
    monkeypatch.syspath_prepend(tmp_path)
    registry._from_entry_points.cache_clear()  # packages do not come and go in a real process
    assert entry_points(group="x2l.oracles")
    assert "from_elsewhere" in registry.names("oracle")
    method = registry.build("oracle", {"name": "from_elsewhere", "weight": 0.5})
    assert registry.describe(method) == {"name": "from_elsewhere", "weight": 0.5}
    assert "other_package:Absent" in error_of(registry.get, "oracle", "absent")
    assert "SyntaxError" in error_of(registry.get, "oracle", "broken")
    registry._from_entry_points.cache_clear()


def test_what_a_backbone_lacks_is_told_with_what_fits_it():
    @registry.register("own")
    @dataclass
    class Own(Compressor):
        requires = frozenset({"attention"})

        def encode(self, backbone, prefix, chunks, ratios):
            return iter(())

    vst = registry.build("compressor", "vst")
    registry.require_provided(vst, {"vst"}, "a model")
    for provides, fits, does_not in (
        ({"unrotated_keys"}, "mean_pool", "own"),
        ({"attention"}, "own", "mean_pool"),
    ):
        with pytest.raises(X2LError) as caught:
            registry.require_provided(vst, provides, "a model")
        told, _, fitting = str(caught.value).partition("expected one of ")
        assert told == "compressor vst: needs vst, which a model does not provide, "
        assert {"identity", fits} <= set(fitting.split(", ")) and does_not not in fitting.split(", ")
        every = {name: registry.get("compressor", name) for name in registry.names("compressor")}
        assert fitting.split(", ") == [
            name for name, cls in every.items() if registry.required(cls) <= provides
        ]
