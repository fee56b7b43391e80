"""``bench doctor`` lists what is installed and what is missing, with the command that installs it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from backbench import terminal
from backbench.backbones.kernels import OPERATIONS
from backbench.benchmarks.cli import doctor


def shown(report: dict[str, Any], width: int = 80) -> str:
    console = terminal.console(file=io.StringIO(), width=width)
    doctor.show(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def without(patch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these distributions, and their modules, were not installed."""
    found, spec = doctor._version, doctor.find_spec
    patch.setattr(doctor, "_version", lambda name: None if name in names else found(name))
    patch.setattr(doctor, "find_spec", lambda name: None if name in names else spec(name))


def test_a_complete_installation_is_listed_in_80_columns(bench: Callable[..., Any]) -> None:
    answer = bench("doctor", COLUMNS="80")
    assert (answer.code, answer.err) == (0, "")
    assert max(len(line) for line in answer.out.splitlines()) <= 80
    assert "everything that bench run needs is installed" in answer.out
    assert f"ok  mujoco         {version('mujoco')}" in answer.out
    for operation in OPERATIONS.values():
        assert f"{operation.name}: auto takes {operation.chosen().name} on cpu" in answer.out
        for name, entry in operation.table.items():
            mark = "--" if entry.missing() else "ok"
            assert f"{mark}  {name:<13}  {entry.summary.split()[0]}" in answer.out


def test_json_holds_the_same_facts(bench: Callable[..., Any], new_store: Any) -> None:
    answer = bench("doctor", "--json")
    assert answer.code == 0
    report = json.loads(answer.out)
    assert report["ready"] is True
    assert report["data"]["folder"] == str(new_store)
    assert report["data"]["sets"] == 0
    assert report["data"]["free_mb"] > 0
    assert report["torch"]["version"] == version("torch")
    assert report["tracking"].startswith("sqlite:///")
    packages = {package["name"]: package for package in report["packages"]}
    assert packages["mlflow"]["required"]
    assert not packages["transformers"]["required"]
    for name, operation in report["operations"].items():
        assert [entry["name"] for entry in operation["implementations"]] == list(OPERATIONS[name].table)


def test_a_missing_required_package_is_listed_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "minari", "transformers")
    report = doctor.examine()
    assert not report["ready"]
    text = shown(report)
    assert "missing: minari" in text
    assert "pip install 'minari[hdf5,hf]" in text
    assert "pip install 'transformers>=5,<6'" in text
    assert "-- transformers" in " ".join(text.split())


def test_exit_status_is_1_without_a_required_package(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from backbench.benchmarks.cli.app import app

    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    without(monkeypatch, "mujoco")
    assert CliRunner().invoke(app, ["doctor", "--json"]).exit_code == 1


def test_it_works_without_torch_and_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "numpy")
    report = doctor.examine()
    assert (report["torch"], report["data"], report["operations"]) == (None, None, {})
    assert "missing: torch, numpy" in shown(report)


def test_a_gpu_and_long_remedies_fit_80_columns() -> None:
    report = doctor.examine()
    report["torch"]["gpus"] = [{"name": "NVIDIA [H100] 80GB HBM3", "memory_mb": 85000, "capability": "9.0"}]
    report["data"]["folder"] = "/a" * 60
    for operation in report["operations"].values():
        operation["auto"]["cuda"] = "triton"
        for entry in operation["implementations"]:
            entry["missing"] = f"{entry['name']} is not installed; pip install {'x' * 40} --no-build-isolation"
    text = shown(report)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "NVIDIA [H100] 80GB HBM3, 85,000 MB, capability 9.0" in text
    assert "triton on cuda" in text
