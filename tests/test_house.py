"""Rules of the house: floors, style, light start-up, no machine's paths."""

import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from pkgutil import walk_packages

import pytest
from packaging.version import Version

import x2l

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
OURS = ("x2l", "tests", "recipes", "benchmarks", "examples", "scripts", "docs", ".ci")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ""}
TOPS = ("work", "home", "Users", "root", "tmp")
ELSEWHERE = {"x2l.lmms.model"}
"""Imported in the environment of tests/lmms/conftest.py."""
MACHINE_PATH = re.compile(rf"(?<![\w.])/({'|'.join(TOPS)})/")


def run(*command: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)


def test_an_upper_floor_imports_a_lower_never_a_sibling():
    result = run(SCRIPTS / "lint-imports", "--no-cache")
    assert result.returncode == 0, result.stdout


def test_an_underscore_means_private_to_its_room():
    """No file imports `_helper` of a room that it does not lie in."""
    private = re.compile(r"^\s*(?:from|import) (x2l(?:\.\w+)*)\.(_[a-z]\w*)", re.M)
    found = [
        f"{path.relative_to(ROOT)}: {room}.{name}"
        for path in (file for folder in ("x2l", "benchmarks") for file in (ROOT / folder).rglob("*.py"))
        for room, name in private.findall(path.read_text())
        if path.parent != ROOT / room.replace(".", "/")
    ]
    assert not found


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_passes(command):
    result = run(SCRIPTS / "ruff", *command, "--no-cache", ".")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", [module.name for module in walk_packages(x2l.__path__, "x2l.")])
def test_every_module_imports(name):
    if not name.endswith("__main__") and name not in ELSEWHERE:
        __import__(name)


def test_help_starts_fast_and_without_torch():
    code = (
        "import sys\nsys.argv = ['x2l', '--help']\nfrom x2l.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    results, seconds = zip(*(timed_run(sys.executable, "-c", code) for _ in range(3)), strict=True)
    assert all(result.returncode == 0 for result in results), results[0].stderr
    assert "Usage" in results[0].stdout
    assert min(seconds) < 1.0


STARTED = """
import gc, sys
sys.argv = ["x2l", *{args}]
from x2l.cli import main
code = main()
heavy = [name for name in sys.modules if name.startswith({heavy})]
collections = sum(each["collections"] for each in gc.get_stats())
sys.exit(f"{{code}} {{heavy}} {{collections}}" if code or heavy or collections > 100 else 0)
"""


@pytest.mark.parametrize(
    ("args", "heavy"),
    [
        (["methods"], ("torch", "transformers", "numpy")),
        # What every model of transformers needs.
        (["estimate", "--frames", "256"], ("transformers.modeling_utils", "peft")),
    ],
    ids=["methods", "estimate"],
)
def test_a_command_loads_no_more_than_it_runs(args, heavy):
    """Nor does it look for garbage among it all: hundreds of times, by default."""
    result = run(sys.executable, "-c", STARTED.format(args=args, heavy=heavy))
    assert result.returncode == 0, result.stderr


def timed_run(*command: str) -> tuple[subprocess.CompletedProcess, float]:
    start_s = time.perf_counter()
    result = run(*command)
    return result, time.perf_counter() - start_s


def text_files() -> list[Path]:
    files = [path for folder in OURS for path in (ROOT / folder).rglob("*")]
    files += list(ROOT.iterdir())
    return [path for path in files if path.is_file() and path.suffix in TEXT_SUFFIXES]


def test_no_file_names_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in text_files()
        if (match := MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not found


def test_the_lowest_versions_are_the_bounds():
    """CI installs from constraints-lowest.txt what pyproject.toml promises; torch is that of every run."""
    project = (ROOT / "pyproject.toml").read_text().partition("[project]")[2]
    project = re.sub(r"^lmms = .*$", "", project, flags=re.M)  # has an environment of its own
    bounds = re.findall(r'"([\w-]+)(?:\[\w+\])?>=([\d.]+)', project)
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints-lowest.txt").read_text(), re.M))
    differ = {name for name, bound in bounds if Version(pins[name.lower()]) != Version(bound)}
    assert len(bounds) > 20
    assert differ == {"torch"}
