"""Boards for papers: LaTeX tables, and plots as SVG and PDF."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from view_factory import TASKS, make_section, make_view

from backbench.errors import UserError
from backbench.leaderboard.views import plots
from backbench.leaderboard.views.latex import escaped, to_latex
from backbench.leaderboard.views.plots import pdf_of, plots_of

NASTY = 'a_b & 50% {x} $y$ #1 ~ ^ \\input{/etc/passwd} <i>|"`\n% \u202e'


def view(rows: int = 3) -> dict[str, Any]:
    return make_view([make_section(rows=rows, tasks=TASKS[:2])])


def test_bold_is_what_no_row_beats_and_what_beats_a_row() -> None:
    found = view()
    (section,) = found["sections"]
    first, second, third = (row["id"] for row in section["rows"])
    section["paired"] = []
    section["decided"] = [
        {"task": TASKS[0], "better": first, "worse": third, "low": 1.0, "high": 2.0},
        {"task": TASKS[0], "better": second, "worse": third, "low": 1.0, "high": 2.0},
        {"task": TASKS[1], "better": third, "worse": first, "low": 1.0, "high": 2.0},
        {"task": TASKS[1], "better": second, "worse": third, "low": 1.0, "high": 2.0},
    ]
    lines = {line.split(" & ")[0]: line.split(" & ")[1:] for line in to_latex(found).splitlines() if " & " in line}
    bold = {name: [cell.startswith(r"\textbf") for cell in cells] for name, cells in lines.items()}
    assert bold[TASKS[0]] == [True, True, False]
    assert bold[TASKS[1]] == [False, True, False]
    section["decided"] = []
    assert r"\textbf" not in to_latex(found)


def test_many_rows_are_lines() -> None:
    few, many = to_latex(view(4)), to_latex(view(9))
    assert r"\begin{tabular}{lrrrr}" in few
    assert r"\begin{tabular}{lrrrr}" in many  # two tasks and two aggregates
    assert len(re.findall(r" \\\\$", many, re.MULTILINE)) == 10


def test_the_caption_counts_the_seeds_of_rows_that_lack_a_task() -> None:
    found = view()
    for row in found["sections"][0]["rows"]:
        row["seeds"] = []  # no seed has all tasks
        for score in row["scores"].values():
            score["seeds"] = [0, 1]
    assert "2 seeds)" in to_latex(found)


def test_names_are_text_and_never_commands() -> None:
    found = view()
    found["sections"][0]["rows"][0]["label"] = NASTY
    text = to_latex(found)
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    for sign in "&%$#_":
        assert len(re.findall(rf"(?<!\\){re.escape(sign)}", escaped(NASTY))) == 0
    assert "\u202e" not in text
    assert escaped("a\nb") == "a b"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-recommended)")
def test_latex_takes_the_tables(tmp_path: Path) -> None:
    found = view(9)
    found["sections"][0]["rows"][0]["label"] = NASTY
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{to_latex(found)}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_plot_is_a_document_of_its_own_with_a_legend() -> None:
    found = view()
    made = plots_of(found)
    assert made == plots_of(found)
    assert len(made) > 8
    for name, svg in made.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        root = ElementTree.fromstring(svg)
        words = [one.text for one in root.iter() if one.tag.endswith("text")]
        assert "var(" not in svg
        assert any(row["label"] in words for row in found["sections"][0]["rows"]), name


def test_a_plot_as_pdf_has_its_size_and_equal_bytes() -> None:
    pytest.importorskip("svglib", reason="svglib is an extra")
    svg = next(iter(plots_of(view()).values()))
    root = ElementTree.fromstring(svg)
    pdf = pdf_of(svg)
    assert pdf.startswith(b"%PDF-")
    assert pdf == pdf_of(svg)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert box is not None
    assert float(box[1]) / float(box[2]) == pytest.approx(
        float(root.attrib["width"]) / float(root.attrib["height"]), 0.01
    )


def test_pdf_without_svglib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "svglib.svglib", None)
    with pytest.raises(UserError, match=r"--format pdf needs svglib .* pip install 'backbench\[papers\]'"):
        plots.pdf_of("<svg/>")
