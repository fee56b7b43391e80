"""Slurm's commands, replaced by scripts: what they are given, and what goes wrong in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbench.benchmarks.run.executors import sbatch
from backbench.benchmarks.run.executors.sbatch import REMEDY, SlurmError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is searched for commands."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, script: str) -> None:
    (path := folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_without_slurm_there_is_one_line(commands: Path) -> None:
    with pytest.raises(SlurmError, match=r"no command sbatch here: .* leave --executor out"):
        sbatch.check({})


def test_a_controller_that_does_not_answer_is_waited_for_a_bounded_time(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(commands, "squeue", "exec /bin/sleep 20")
    monkeypatch.setattr(sbatch, "PATIENCE", 0.2)
    with pytest.raises(SlurmError, match=r"Slurm did not answer squeue within 0 s; try again later"):
        sbatch.queue()


def test_what_a_command_says_becomes_one_line(commands: Path) -> None:
    put(commands, "sbatch", "echo 'sbatch: error: no room' >&2; echo 'sbatch: error: give up' >&2; exit 1")
    with pytest.raises(SlurmError) as caught:
        sbatch.submit(commands, 1, 0, "true", {})
    assert str(caught.value) == f"sbatch says: no room; give up; {REMEDY}"
    put(commands, "sbatch", "exit 3")
    with pytest.raises(SlurmError, match="sbatch says: exit status 3"):
        sbatch.check({})


def test_an_array_gets_the_options_and_no_setting_of_the_job_around_it(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_CONF", "/the/conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "me")
    put(commands, "sbatch", f'printf "%s\\n" "$@" > {commands}/got; /usr/bin/env > {commands}/env; echo "12;here"')
    (folder := commands / "100%").mkdir()
    assert sbatch.submit(folder, 3, 2, "true", {"time": "60", "mem": ""}) == "12"
    got = (commands / "got").read_text(encoding="utf-8").split("\n")
    assert {"--array=0-2%2", "--time=60", "--job-name=100%", f"--output={commands}/100%%/%a.log"} <= set(got)
    assert not any(word.startswith("--mem") for word in got)
    environment = (commands / "env").read_text(encoding="utf-8")
    assert "SLURM_CONF=/the/conf" in environment
    assert "SBATCH_ACCOUNT=me" in environment
    assert "SLURM_JOB_ID" not in environment


def test_the_queue_has_tasks_of_arrays_only(commands: Path) -> None:
    lines = ("backbench-1|12|0|RUNNING", "shell|13|N/A|PENDING", "backbench-1|12|1|PENDING")
    put(commands, "squeue", "\n".join(f"echo '{line}'" for line in lines))
    assert sbatch.queue() == {("backbench-1", 0): ("12", "RUNNING"), ("backbench-1", 1): ("12", "PENDING")}
