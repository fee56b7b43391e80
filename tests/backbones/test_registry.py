"""The registry is lazy and strict."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backbench.backbones import BACKBONES, UserError, summary_of


class FakeDistribution(importlib.metadata.Distribution):
    """A distribution with nothing but a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: Any) -> Any:
        return Path(path)


def install(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str, str]) -> None:
    """Pretend that packages are installed whose entry points are (name, "module:Class", distribution)."""
    made = []
    for name, value, dist in points:
        point = importlib.metadata.EntryPoint(name, value, BACKBONES.group)
        made.append(point._for(FakeDistribution(dist)))  # type: ignore[attr-defined]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: made if group == BACKBONES.group else [])


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_names_are_listed_without_importing_torch_or_backbones() -> None:
    code = (
        "import sys; from backbench.backbones import BACKBONES; BACKBONES.names(); BACKBONES.origin('mamba');"
        "print([m for m in sys.modules if m == 'torch' or m.startswith('backbench.backbones.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = eval(out)
    assert set(loaded) == {f"backbench.backbones.{name}" for name in ("options",)}


def test_built_in_backbones_are_found_by_name() -> None:
    assert {"gloma", "identity", "mamba", "mlp", "transformer"} <= set(BACKBONES.names())
    assert BACKBONES.get("mamba").__name__ == "Mamba"
    assert BACKBONES.origin("mamba") == "built-in"


def test_a_typo_gets_a_suggestion() -> None:
    with pytest.raises(
        UserError, match=r"unknown backbone 'mamab'; did you mean 'mamba'\? known: .*gloma.*transformer"
    ):
        BACKBONES.get("mamab")


def test_entry_point_of_another_package_is_found_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("other", "backbench.backbones.mixers.mamba:Mamba", "backbench-other"))
    assert "other" in BACKBONES.names()
    assert BACKBONES.origin("other") == "entry point of backbench-other"
    assert BACKBONES.get("other") is BACKBONES.get("mamba")


def test_module_and_class_name_find_a_backbone() -> None:
    name = "backbench.backbones.mixers.mlp:StepMLP"
    assert BACKBONES.origin(name) == "command line"
    assert BACKBONES.get(name) is BACKBONES.get("mlp")


@pytest.mark.parametrize("points", [[("mamba", "a.b:C", "plug")], [("x", "a.b:C", "plug"), ("x", "d.e:F", "plugged")]])
def test_collisions_name_both(monkeypatch: pytest.MonkeyPatch, points: list[tuple[str, str, str]]) -> None:
    install(monkeypatch, *points)
    assert BACKBONES.get("identity")  # an innocent name still works
    with pytest.raises(UserError, match="is defined twice") as caught:
        BACKBONES.get(points[0][0])
    assert all(value in str(caught.value) for _, value, _ in points)
    assert "mamba:Mamba" in str(caught.value) or len(points) == 2


def test_other_classes_and_objects_are_refused() -> None:
    with pytest.raises(UserError, match=r"is not a class derived from .*Backbone or .*Mixer"):
        BACKBONES.get("torch.nn:Linear")
    with pytest.raises(UserError, match="is not a class derived from"):
        BACKBONES.get("math:pi")


def test_a_missing_package_is_named_without_a_command_that_installs_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("ghost", "no_such_package.module:Class", "backbench-ghost"))
    with pytest.raises(UserError, match=r"entry point of backbench-ghost.*the module 'no_such_package'"):
        BACKBONES.get("ghost")


def test_a_missing_dependency_is_the_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, "needs_more", "import no_such_dependency.part\n")
    with pytest.raises(
        UserError, match=r"needs_more\.py, line 1\); install the package with the module 'no_such_dependency'"
    ):
        BACKBONES.get("needs_more:Class")


def test_a_failing_import_names_package_and_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, "breaks", "raise RuntimeError('two\\nlines')\n")
    with pytest.raises(UserError, match=r"'breaks' raised RuntimeError: two lines \(.*breaks\.py, line 1\)") as caught:
        BACKBONES.get("breaks:Class")
    assert "\n" not in str(caught.value)


def test_an_error_of_syntax_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, monkeypatch, "misspelt", "x = 1\ndef f(:\n")
    with pytest.raises(UserError, match=r"SyntaxError: .*misspelt\.py, line 2\)"):
        BACKBONES.get("misspelt:Class")


def test_a_missing_class_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="has no 'Mambo'; did you mean 'Mamba'"):
        BACKBONES.get("backbench.backbones.mixers.mamba:Mambo")


def test_a_missing_module_of_ours_is_not_a_package_to_install() -> None:
    with pytest.raises(UserError, match="check its spelling"):
        BACKBONES.get("backbench.backbones.mambo:Mamba")


@pytest.mark.parametrize("name", ["a:", ":b", ":"])
def test_incomplete_path_is_an_unknown_name(name: str) -> None:
    with pytest.raises(UserError, match="unknown backbone"):
        BACKBONES.get(name)


def test_summary_is_the_class_attribute_or_the_first_line_of_the_docstring() -> None:
    from backbench.backbones.contract import Mixer

    class Undescribed(Mixer):
        """The first line.

        More.
        """

    for name in ("gloma", "identity", "mamba", "mlp", "transformer"):
        assert summary_of(BACKBONES.get(name)) == BACKBONES.get(name).summary != ""
    assert summary_of(Undescribed) == "The first line."
