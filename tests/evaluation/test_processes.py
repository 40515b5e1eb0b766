"""Several processes share the videos of an evaluation: together they give what one gives, killed or not."""

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from models import save, tiny_backbone

from x2l.cli.app import main, x2l
from x2l.evaluation import run, summarise
from x2l.evaluation.results import read
from x2l.storage.files import alone_in, write_bytes

ROOT = Path(__file__).parents[2]
RECIPE = """
data: {name: needles, num: 4, seed: 4, chunks: 3, size: 96, seconds_per_scene: 2, questions: {detail: 2}}
base:
  backbone: {name: video_xl, model: MODEL}
  ratios: [2, 8]
  chunk_frames: 2
rows:
  uncompressed: {compressor: identity, ratios: [1], oracle: annotated, selector: constant}
  gold: {oracle: annotated, selector: {name: top_k, k: 1}}
  attention: {oracle: attention, selector: {name: top_k, k: 2}}
"""
DIES_AT = 5
DYING = f"""
import json, os
from x2l.evaluation.results import Results

append = Results.append

def append_or_die(self, line):
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    is_second = self.path.name == "results-1.jsonl"
    if is_second and attempt == "0" and self.path.read_bytes().count(10) == {DIES_AT}:
        self._file.write(json.dumps(line).encode()[:50])
        self._file.flush()
        os.kill(os.getpid(), 9)
    append(self, line)

Results.append = append_or_die
"""
"""A plugin that kills the second process in the middle of a line, unless torchrun has started it again."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    save(tiny_backbone(), folder / "model")
    (folder / "recipe.yaml").write_text(RECIPE.replace("MODEL", str(folder / "model")))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory):
    """What one process gives."""
    out = tmp_path_factory.mktemp("alone") / "out"
    run(recipe, out, progress=False)
    return timeless(out)


def timeless(out: Path) -> tuple[list[dict], str, dict]:
    """Lines, table and summary of a run, as if every answer had taken the same time."""
    lines = [line | {"seconds": {"score": 1.0}, "session": 0} for line in read(out)]
    write_bytes(out / "results.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    summary = summarise(out)
    table = (out / "table.md").read_text().replace(summary["date"], "")
    return lines, table, {key: value for key, value in summary.items() if key not in ("date", "num_sessions")}


def together(folder: Path, recipe: Path, *options: str, by: str = "torchrun") -> tuple[list[int], list[str]]:
    """Exit codes and messages of two processes that write to `folder`, started as `by` starts them."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["x2l.evaluation", "x2l.backbones.video_xl"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = ["eval", str(recipe), "--out", str(folder), "--quiet", *options]
    said = [folder.with_name(f"said-{rank}") for rank in (0, 1)]
    processes = [
        context.Process(
            target=work,
            args=(told(by, rank) | {"MASTER_PORT": port}, torch.get_num_threads(), arguments, path),
        )
        for rank, path in enumerate(said)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
    codes = [process.exitcode for process in processes]
    return codes, [path.read_text() for path in said]


def told(by: str, rank: int) -> dict[str, str]:
    """What the environment of a process says."""
    if by == "torchrun":
        return {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    job = {"SLURM_JOB_ID": "1234567", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_TASKS": "2"}
    return job | {"SLURM_PROCID": f"{rank}", "SLURM_LOCALID": f"{rank}"}


def work(environment: dict[str, str], num_threads: int, arguments: list[str], said: Path) -> None:
    """In a process of its own."""
    os.environ.update(environment)
    torch.set_num_threads(num_threads)
    with said.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main(arguments))


@pytest.fixture(scope="module")
def dying(tmp_path_factory):
    path = tmp_path_factory.mktemp("dying") / "dying.py"
    path.write_text(DYING)
    return str(path)


@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["live", "dies"])
def test_two_processes_give_what_one_gives(recipe, alone, dying, tmp_path, dies):
    """Lines in the same order, and tables; with a cache of indices that has no room for any.

    Also if one dies and torchrun starts both again.
    """
    out, indices = tmp_path / "out", tmp_path / "indices"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", f"{dies:d}", "-m", "x2l", "eval", recipe, "--out", out]
    command += ["--index-cache", indices, "--index-cache-gb", "0"]
    command += ["--plugin", dying] if dies else []
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    result = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == (out / "table.md").read_text().strip()
    assert ("exitcode: -9" in result.stderr) is dies
    assert len(read(out)) > 2 * DIES_AT and not list(out.glob("results-*"))
    assert timeless(out) == alone
    assert list((indices / "indices").iterdir()) == []


@pytest.fixture(scope="module")
def killed(recipe, dying, tmp_path_factory):
    """A run of two processes, of which the second was killed in the middle of a line."""
    out = tmp_path_factory.mktemp("killed") / "out"
    codes, said = together(out, recipe, "--plugin", dying)
    assert codes == [2, -9], said
    left = (out / "results-1.jsonl").read_bytes()
    assert left.count(b"\n") == DIES_AT and not left.endswith(b"\n")
    return out


@pytest.mark.parametrize("by", [None, "srun"])
def test_videos_of_a_killed_process_are_taken_up(recipe, alone, killed, tmp_path, by):
    """By one process, or by two; what was answered before is kept."""
    out, before = shutil.copytree(killed, tmp_path / "out"), read(killed)
    assert len({line["video"] for line in before}) == 3
    if by is None:
        run(recipe, out, progress=False)
    else:
        codes, said = together(out, recipe, by=by)
        assert codes == [0, 0] and "| gold |" in said[0] and "| gold |" not in said[1]
    lines = read(out)
    assert all(line in lines for line in before) and not list(out.glob("results-*"))
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 2
    assert timeless(out) == alone


def messages(said: list[str]) -> list[str]:
    return [line for text in said for line in text.splitlines() if line.startswith("x2l:")]


def test_one_of_the_processes_refuses_for_all(recipe, tmp_path):
    """A folder that another run writes to."""
    out = tmp_path / "out"
    out.mkdir()
    with alone_in(out):
        codes, said = together(out, recipe)
    assert codes == [2, 2]
    assert messages(said) == [f"x2l: error: {out}: another run is writing there, expected to be alone"]
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_what_all_processes_find_wrong_is_said_once(recipe, tmp_path):
    """A level that no index has, which is known once a question is answered."""
    codes, said = together(tmp_path / "out", recipe, "--set", "rows.gold.selector={name: constant, ratio: 4}")
    assert codes == [2, 2]
    (message,) = messages(said)
    assert message.startswith("x2l: error: rows.gold.selector.ratio: 4")


@pytest.mark.parametrize("script", ["eval.slurm", "post_training.slurm"])
def test_an_example_for_slurm_runs_a_command_that_is_there(script):
    recipe = ROOT / "recipes" / "spine.yaml"
    shown = f'srun() {{ printf "%s\\n" "$@"; }}; export -f srun; bash examples/{script} {recipe} runs/out'
    result = subprocess.run(["bash", "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True)
    name, *arguments = result.stdout.partition("x2l\n")[2].splitlines()
    context = x2l.commands[name].make_context(name, arguments)
    assert (context.params["recipe"], context.params["out"]) == (recipe, Path("runs/out"))
