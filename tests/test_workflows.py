"""What the workflows and the Makefile call is there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
SYSTEM = {"sudo", "pip"}  # of the runner


def workflow(name: str) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    assert isinstance(content, dict)
    return content


def commands() -> list[str]:
    """Every line that a workflow or the common script runs."""
    lines = []
    for path in WORKFLOWS:
        for job in workflow(path.name)["jobs"].values():
            for step in job["steps"]:
                assert ("run" in step) != ("uses" in step), step
                lines += step.get("run", "").splitlines()
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    lines += [line.strip() for line in script if line.strip().startswith("make ")]
    return [line for line in lines if line]


@pytest.mark.parametrize("line", commands())
def test_what_is_run_is_there(line: str) -> None:
    words = line.split()
    if words[0] == "make":
        assert words[1] in TARGETS, line
    elif words[:2] == ["python", "-m"]:
        module = words[2]
        installed = any(f" {module}==" in other for other in commands() if other.startswith("python -m pip install"))
        assert module == "pip" or installed or importlib.util.find_spec(f"{module}.__main__"), line
    elif words[0] == "bash":
        assert (ROOT / words[1]).is_file(), line
    else:
        assert words[0] in SYSTEM, line


def test_a_missing_target_would_be_found() -> None:
    assert "leaderboard" in TARGETS
    assert "leaderbord" not in TARGETS
    assert any(line.startswith("python -m backbench.leaderboard check") for line in commands())
    assert "make leaderboard-check" in commands()


def test_every_action_is_pinned_by_its_commit_and_names_its_version() -> None:
    used = [line.strip() for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not re.fullmatch(r"- uses: actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
            and not re.fullmatch(r"uses: actions/deploy-pages@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []  # fmt: skip


def test_no_job_has_more_rights_than_it_needs() -> None:
    for path in WORKFLOWS:
        content = workflow(path.name)
        assert content["permissions"] == {}
        for name, job in content["jobs"].items():
            assert name == "publish" or job["permissions"] == {"contents": "read"}
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False


def test_the_night() -> None:
    content = workflow("nightly.yml")
    when = content[True]  # YAML reads "on" so
    assert set(when) == {"schedule", "workflow_dispatch"}
    assert re.fullmatch(r"\d+ \d+ \* \* \*", when["schedule"][0]["cron"])
    grid, publish = content["jobs"]["grid"], content["jobs"]["publish"]
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    assert publish["needs"] == "grid"
    paths = [step["with"]["path"] for step in grid["steps"] if "upload" in step.get("uses", "")]
    assert paths == ["build/nightly/records", "build/site", "build/site"]
    assert "NIGHTLY := build/nightly\nSITE := build/site\n" in MAKEFILE
    assert publish["steps"][-1]["uses"].startswith("actions/deploy-pages@")


def test_the_night_runs_every_backbone_on_both_suites() -> None:
    plan = dry("nightly")
    for suite in ("d4rl", "atari"):
        assert f"bench run --backbone all --suite {suite} --preset smoke --out build/nightly" in plan
    order = [
        plan.index(word)
        for word in ("--suite atari", "leaderboard --check", "mkdocs build", "--out build/site/nightly")
    ]
    assert order == sorted(order)


def dry(target: str, *words: str) -> str:
    """What make would do."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, *words],
        cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | {"MAKEFLAGS": ""},
    )  # fmt: skip
    return done.stdout


def test_the_leaderboard_needs_no_torch() -> None:
    """Where the whole environment is not set up, a small one is made."""
    plan = dry("leaderboard", "VENV=not-there", "PAGES=not-there-either")
    assert " -m pip " in plan
    assert "torch" not in plan
    assert "run.txt" not in plan
    assert "editable" not in plan
    assert re.findall(r"--require-hashes --no-deps --requirement (.*)", plan) == ["not-there-either/locks/pages.txt"]
    assert plan.index(" render") < plan.index(" check")


def test_the_documentation_has_an_environment_of_its_own() -> None:
    plan = dry("docs", "DOCS=not-there")
    assert re.findall(r"--require-hashes --no-deps --requirement (.*)", plan) == ["not-there/locks/docs.txt"]
    assert " not-there/bin/mkdocs build" in plan
    assert "strict: true\n" in (ROOT / "mkdocs.yml").read_text()
    assert "site_dir: build/site\n" in (ROOT / "mkdocs.yml").read_text()
    assert "make docs" in commands()


def test_the_whole_environment_serves_too(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bench").write_text("")
    plan = dry("leaderboard", f"VENV={tmp_path}")
    assert plan.splitlines() == [
        f"PYTHONPATH=src {tmp_path}/bin/python -m backbench.leaderboard {command}" for command in ("render", "check")
    ]
    assert dry("leaderboard-check", f"VENV={tmp_path}").splitlines() == plan.splitlines()[1:]


def test_records_and_pages_are_in_no_wheel() -> None:
    import tomllib

    from setuptools import find_namespace_packages

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = find_namespace_packages(str(ROOT / "src"), exclude=tool["packages"]["find"]["exclude"])
    assert "backbench.leaderboard" in found
    assert [name for name in found if name.startswith("backbench.leaderboard.published")] == []
    assert tool["exclude-package-data"]["backbench.leaderboard"] == ["published/**"]


def test_a_release_is_built_from_the_tag_and_published_without_a_stored_secret() -> None:
    release = workflow("release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML reads the key "on" as true
    jobs = release["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == ["wheel", "source"]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert (ROOT / built["test-command"].removeprefix("python {project}/")).is_file()


def test_the_image_has_the_locked_packages_and_no_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    torch = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch is not None
    assert f"torch=={torch[1]}+cpu" in text
    assert "--require-hashes --no-deps --requirement locks/run.txt" in text
    assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE)
