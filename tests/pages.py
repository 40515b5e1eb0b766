"""Pages of documentation as tests follow them: their blocks of code and the commands in these."""

import re
import shlex


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def commands(text: str) -> list[list[str]]:
    """The arguments of every `x2l` that a block of bash calls."""
    lines = [line for block in blocks("bash", text) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("x2l ")]
