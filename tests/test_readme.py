"""What the README shows, run as it stands."""

import io
import re
from pathlib import Path

import pytest
from pages import blocks, commands

from x2l import registry
from x2l.cli.app import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMITS = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
PYTHON = blocks("python", README)
LONG_COMMANDS = ("fit", "eval")


def section(heading: str) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.M | re.S).group(1)


def test_there_is_something_to_run():
    assert len(PYTHON) >= 2
    assert len(commands(section("Use"))) >= 5


@pytest.mark.parametrize("code", PYTHON)
def test_python_block(code, checkout, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


def test_commands(checkout, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("How many bells appear in the video?\n"))
    for arguments in commands(section("Use")):
        assert main(arguments) == 0, arguments
    said = re.search(r"On the sample video (\d+) of 12 questions are right", LIMITS).group(1)
    right = re.search(r"^(\d+) of 12 right", capsys.readouterr().out, re.M).group(1)
    assert int(right) >= int(said)  # another machine may round otherwise


def test_long_commands_name_files_that_exist():
    named = re.findall(rf"x2l (?:{'|'.join(LONG_COMMANDS)}) (\S+)", README)
    assert len(named) >= 4
    assert all((ROOT / path).is_file() for path in named)


def test_ten_lines_name_all_four_slots():
    code = PYTHON[0]
    assert all(f'"{slot}"' in code for slot in registry.PARTS)
    assert len(code.strip().splitlines()) <= 14
