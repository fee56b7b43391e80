"""The notebooks run from the first cell to the last, at preset smoke, as a reader's kernel runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra test has it")
    nbclient = pytest.importorskip("nbclient", reason="the extra test has it")
    monkeypatch.setenv("BACKBENCH_PRESET", "smoke")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    texts = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(output["output_type"] in ("execute_result", "display_data") for output in texts)
    assert [output for output in texts if output.get("name") == "stderr"] == []
