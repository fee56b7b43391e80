"""What studies read from records, and what they write."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from record_factory import make_record, raw_return
from scipy import stats

from backbench.benchmarks.studies import STUDIES
from backbench.benchmarks.studies.ablation import BOTH, GLOBAL, LOCAL, read
from backbench.benchmarks.studies.reach.study import sign_test
from backbench.benchmarks.studies.report import markdown, write
from backbench.benchmarks.studies.study import Arm, Cells, Part, Records, Table, cells_of
from backbench.benchmarks.studies.targets import conditioning, spearman
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record


def records(backbone: str, *scores: float) -> list[Record]:
    return [
        make_record(backbone, task, seed, scores=[score + seed] * 3)
        for task in ("hopper-medium", "walker2d-medium")
        for seed, score in enumerate((*scores, *scores))
    ]


def test_the_ablation_compares_both_branches_with_each_alone() -> None:
    found = Records({BOTH: records("gloma", 60), GLOBAL: records("gloma", 40), LOCAL: records("gloma", 30)}, Path())
    reading = read(found)
    (claim,) = reading.claims
    assert claim.verdict == "supported"
    assert "Both minus global only, equal parameters: +20.0 (" in claim.result
    assert reading.tables[0].rows[0][:3] == ["both", 60.5, 60.5]
    swapped = read(
        Records({BOTH: records("gloma", 40), GLOBAL: records("gloma", 60), LOCAL: records("gloma", 30)}, Path())
    )
    assert swapped.claims[0].verdict == "contradicted"
    assert read(Records({BOTH: records("gloma", 40)}, Path())).claims[0].verdict == "open"


def test_a_report_has_text_tables_and_pictures(tmp_path: Path) -> None:
    found = Records({BOTH: records("gloma", 60), GLOBAL: records("gloma", 40), LOCAL: records("gloma", 30)}, Path())
    reading = read(found)
    made = Cells({arm: [] for arm in found.by_arm}, {Arm("a|b", "gloma"): "no window holds it"})
    study = STUDIES["ablation"]()
    files = write(study, reading, made, found, tmp_path, ["Command: `bench study ablation`"])
    assert files == ["report.md", "ablation.svg", "ablation.png", "ablation.csv"]
    text = (tmp_path / "report.md").read_text()
    for said in ("*Supported*", "a|b was skipped: no window holds it", "12 records", "![Difference in mean score"):
        assert said in text
    lines = list(csv.reader((tmp_path / "ablation.csv").open()))
    assert lines[1][:2] == ["both", "60.5"]
    ElementTree.parse(tmp_path / "ablation.svg")
    again = (tmp_path / "ablation.svg").read_bytes()
    write(study, reading, made, found, tmp_path, [])
    assert (tmp_path / "ablation.svg").read_bytes() == again


def test_cells_without_a_record_are_counted_where_cells_were_planned(tmp_path: Path) -> None:
    found = Records({BOTH: records("gloma", 60)[:1]}, tmp_path)
    planned = cells_of([Part("memory", ("repeat-4",), (BOTH,), (0, 1, 2))], "smoke")
    said = []
    for made in (planned, Cells({BOTH: []}, {})):
        write(STUDIES["ablation"](), read(found), made, found, tmp_path, [])
        said.append((tmp_path / "report.md").read_text())
    assert "2 cells of 3 have no finished record" in said[0]
    assert "no finished record" not in said[1]


def test_a_cell_cannot_break_a_table() -> None:
    assert markdown(Table("t", "T", ["a", "b"], [["x|y", 1.25], ["z", None]]))[2:] == ["| x\\|y | 1.2 |", "| z |  |"]


def test_an_arm_that_cannot_run_is_skipped_with_its_reason() -> None:
    good, bad = Arm("good", "gloma"), Arm("bad", "gloma", ("backbone.windows=[1,2,3]",))
    made = cells_of([Part("memory", ("repeat-4",), (good, bad), (0,))], "smoke")
    assert [len(cells) for cells in made.cells.values()] == [1]
    assert "windows=[1, 2, 3] has 3 entries" in made.skipped[bad]
    with pytest.raises(UserError, match="has 3 entries"):
        cells_of([Part("memory", ("repeat-4",), (bad,), (0,))], "smoke")


@pytest.mark.parametrize("name", sorted(STUDIES))
@pytest.mark.parametrize("preset", ["smoke", "quick"])
def test_every_study_declares_cells_that_can_be_planned(name: str, preset: str) -> None:
    study = STUDIES[name]()
    parts = study.parts(preset)
    made = cells_of(parts, preset)
    assert made.skipped == {}
    assert len({cell.key for cell in made.every}) == len(made.every) > 0
    said = study.smallest(parts)
    assert ("is found at 95 % in 80% of such studies" in said) is (name != "reach")
    assert said.startswith("Smallest effect")


def test_one_branch_of_twice_the_channels_has_as_many_parameters() -> None:
    from backbench.benchmarks.plan.assemble import make_backbone

    made = cells_of([Part("d4rl", ("hopper-medium",), (BOTH, GLOBAL, LOCAL), (0,))], "quick")
    assert len({sum(p.numel() for p in make_backbone(cell).parameters()) for cell in made.every}) == 1


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 6, size=30).astype(float), rng.normal(size=30)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0


def asked(achieved: list[float]) -> Record:
    """A record that was asked for 1000, 2000, 3000 and had about these returns."""
    record = make_record(scores=(40.0, 50.0, 60.0))
    assert record.scores is not None
    headline = record.scores.last.targets[0]
    spread = (-30.0, 0.0, 30.0)
    targets = tuple(
        headline.model_copy(
            update={"target": target, "returns": tuple(raw_return("hopper", 40) + mean + one for one in spread)}
        )
        for target, mean in zip((1000.0, 2000.0, 3000.0), achieved, strict=True)
    )
    last = record.scores.last.model_copy(update={"targets": targets})
    return record.model_copy(update={"scores": record.scores.model_copy(update={"last": last})})


def test_conditioning_is_found_where_it_works_and_only_there() -> None:
    works = conditioning([asked([0, 500, 1000]), asked([0, 400, 900])])
    ignores = conditioning([asked([0, 0, 0]), asked([0, 0, 0])])
    assert works.interval is not None
    assert works.interval.low > 0.8
    assert ignores.value == pytest.approx(0.0, abs=1e-9)


def test_a_sign_test_needs_six_agents_that_agree() -> None:
    assert [sign_test(of, of) for of in (0, 5, 6, 8)] == ["open", "open", "supported", "supported"]
    assert [sign_test(k, 8) for k in (0, 1, 4, 7)] == ["contradicted", "open", "open", "open"]
