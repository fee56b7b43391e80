"""The notebooks run from the first cell to the last, at preset smoke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forked
import pytest
from paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """In a shell of IPython without a kernel's process, which would take most of the time."""
    pytest.importorskip("IPython", reason="the extra test has it")
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells), "committed without outputs"

    def run() -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.utils.capture import capture_output

        shell, shown = InteractiveShell.instance(), 0
        for cell in cells:
            with capture_output() as said:
                done = shell.run_cell("".join(cell["source"]))
                done.raise_error()
            shown += done.result is not None
            assert not said.stderr, said.stderr
        assert shown

    environment = {"BACKBENCH_PRESET": "smoke", "IPYTHONDIR": str(tmp_path / "ipython"), "MPLBACKEND": "agg"}
    code, out, errors = forked.call(run, tmp_path, environment, 300)
    assert code == 0, out + errors


@pytest.mark.slow
@every
def test_a_notebook_runs_in_a_kernel(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra test has it")
    nbclient = pytest.importorskip("nbclient", reason="the extra test has it")
    monkeypatch.setenv("BACKBENCH_PRESET", "smoke")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources: dict[str, Any] = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    texts = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any(output["output_type"] in ("execute_result", "display_data") for output in texts)
    assert [output for output in texts if output.get("name") == "stderr"] == []
