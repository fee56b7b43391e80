"""The comparison with other packages finds equal layers equal and others not, and says what is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import compare_references as tool
import pytest
import torch
from paths import ROOT
from references import comparison
from references.recurrences import RECURRENCES

from backbench.backbones import BACKBONES
from backbench.benchmarks.speed.peer_layers import MambapyMixer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
FLA_GLA = """
import torch

def naive_recurrent_gla(q, k, v, gk):
    q, k, v, gk = q.float(), k.float(), v.float(), gk.float()
    state, rows = 0, []
    for t in range(q.shape[1]):
        state = gk[:, t].exp().unsqueeze(-1) * state + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        rows.append((q[:, t].unsqueeze(-2) @ state).squeeze(-2) / q.shape[-1] ** 0.5)
    return torch.stack(rows, 1).to(q.dtype), None
"""


def test_all_that_is_installed_equals_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main([]) == 0
    found = capsys.readouterr().out
    rows = found.partition("\n\n")[0].splitlines()[1:]
    here = [one for one in tool.COMPARISONS if one.package.installed]
    assert [row.split()[0] for row in rows] == [one.backbone for one in here]
    assert {"mambapy", "transformers"} <= {one.package.distribution for one in here}
    absent = {one.package.distribution for one in tool.COMPARISONS if not one.package.installed}
    assert all(f"\n{distribution} is not installed (for " in found for distribution in absent)


def test_a_wrong_layer_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    forward = MambapyMixer.forward
    monkeypatch.setattr(MambapyMixer, "forward", lambda self, x: (1 + 1e-9) * forward(self, x))
    assert tool.main(["mamba"]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert ["WRONG" in row for row in rows[1:3]] == [True, False]


def test_what_a_package_raises_is_in_its_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: MambapyMixer, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no driver\nat all")

    monkeypatch.setattr(MambapyMixer, "forward", broken)
    assert tool.main(["mamba", "--markdown"]) == 1
    assert "| RuntimeError: no driver at all |" in capsys.readouterr().out


def test_a_missing_package_is_one_line_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison.Package, "installed", None)
    assert tool.main(["mingru", "convformer"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "minGRU-pytorch is not installed (for mingru): "
        "pip install --no-deps --upgrade --target build/references minGRU-pytorch==0.2.1",
        "then: PYTHONPATH=src:build/references python tools/compare_references.py",
        "no other package's implementation: convformer; the tests compare with equations",
    ]


def test_a_wrong_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["mabma"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown backbone 'mabma'; did you mean 'mamba'?")


@pytest.mark.parametrize("backbone", ["gla", "hgrn2"])
def test_recurrences_of_fla_need_neither_its_init_nor_single_precision(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fla" / "ops" / "gla" / "naive.py"
    file.parent.mkdir(parents=True)
    file.write_text(FLA_GLA)
    (tmp_path / "fla" / "__init__.py").write_text("raise ImportError('no triton')\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = next(one for one in RECURRENCES if one.backbone == backbone)
    assert one.error(torch.float64) < 1e-13
    assert 1e-9 < one.error(torch.float32) < 1e-5
    file.write_text(FLA_GLA.replace("gk.float()", "1.0001 * gk.float()"))
    assert one.error(torch.float64) > 1e-6


def test_the_page_lists_every_comparison() -> None:
    page = (ROOT / "docs" / "reference" / "built-in-backbones.md").read_text(encoding="utf-8")
    section = page.partition("\n## Compared with\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    listed = [(row[0].strip("`"), row[1].split()[0], row[2].strip("`"), row[3]) for row in rows]
    assert listed == [(one.backbone, one.package.distribution, one.name, one.part) for one in tool.COMPARISONS]
    assert all(float(row[4]) <= 1e-5 and float(row[5]) <= tool.ALLOWED for row in rows)
    without_row = {name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"} - tool.COMPARED
    assert all(f"`{name}`" in section.rpartition("| ")[2] for name in without_row - {"identity", "mlp"})
