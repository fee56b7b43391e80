"""``bench verify`` from a published row to a verdict and a board, at a small size; the second machine is simulated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import yaml

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.files import canonical, load_records
from backbench.leaderboard.record.schema import Record

pytestmark = pytest.mark.usefixtures("hopper_store")
SUITE = "hops.yaml"
RUN = ("--preset", "smoke", "--suite", SUITE)
OTHER = {
    "vendor": "GenuineIntel", "family": "6", "model": "85", "stepping": "7", "instructions": ["avx2"],
    "blas": "openblas", "torch": "AVX2, MKL", "libc": "glibc 2.36",
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, hopper_store: Path) -> Path:
    """A folder with a suite and, in ``results``, two seeds of a row of this machine."""
    folder = tmp_path_factory.mktemp("ran")
    source = {"env_id": "Hopper-v5", "data_id": "backbench/hopper/medium-2000-v1", "targets": [300]}
    content = {
        "source": "local", "max_steps": 100, "return_scale": 100, "normaliser": "declared",
        "tasks": {"hop": {"reference": [0, 400], "sources": {"local": source}}},
    }  # fmt: skip
    (folder / SUITE).write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ("run", "--backbone", "identity", *RUN, "--seeds", "2", "--track", "none", "--out", "first")
    code, _, errors = forked.bench(words, folder, {}, 240)
    assert code == 0, errors
    return folder


@pytest.fixture
def own(ran: Path, tmp_path: Path) -> Path:
    """A copy of the records of ``ran``, in the working folder, and of the suite."""
    shutil.copy(ran / SUITE, tmp_path)
    shutil.copytree(ran / "first", tmp_path / "first")
    return tmp_path / "first" / "records"


@pytest.fixture
def published(own: Path) -> Path:
    """Two seeds of a row, as if another kind of processor had run them."""
    for path in own.glob("*.json"):
        content = json.loads(path.read_text())
        content["provenance"]["hardware"]["processor"] = OTHER
        path.write_text(canonical(Record.model_validate(content), as_read=True))
    return own


def test_a_row_is_verified_with_other_seeds(tmp_path: Path, published: Path, bench: Callable[..., Any]) -> None:
    words = ("verify", "identity", *RUN, "--records", "first")
    done = bench(*words, "--seeds", "10-11")
    assert done.code in (0, 1), done.err
    lines = done.out.splitlines()
    assert any(line.startswith("hop: ") and "published" in line for line in lines)
    verdict = lines[-1].partition(":")[0]
    assert verdict in ("verified", "consistent", "different")
    assert done.code == int(verdict == "different")
    again = bench(*words, "--seeds", "10-11")
    assert again.out.splitlines()[-1] == lines[-1], "a second call runs nothing and says the same"
    assert len(list((tmp_path / "verified" / "records").glob("*.json"))) == 2

    board = tmp_path / "board" / "records"
    submit = ("submit", "--to", str(board), "--allow-smoke", "--allow-dirty")
    assert bench(*submit, "first").code == 0
    taken = bench(*submit, "verified", "--verification")
    assert taken.code == 0, taken.err
    assert f"identity: {lines[-1]}" in taken.out
    (section,) = build_board(load_records(board)[0]).sections
    (row,) = section.rows
    assert (row.trust, row.machines, row.seeds) == (verdict, 2, (0, 1, 10, 11))
    # A second time they are there already; and seeds of the row are no verification of it.
    assert "has seed 10 already" in bench(*submit, "verified", "--verification").err
    assert "seeds 10, 11 of identity are in" in bench("verify", "identity", *RUN, "--records", str(board)).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mlp",), "has no row mlp; there are identity"),
        (("identity", "train.lr=0.1"), "has no row identity train.lr=0.1; there are identity"),
        (("identity", "--preset", "quick"), "it has no row of that suite, preset and data source"),
        (("identity", "--seeds", "1-3"), "seed 1 of identity are in"),
        (("identity", "train.lr=0.1,0.2"), "more than one row"),
        (("identity,mlp",), "give the backbone of one row"),
        (("identity", "--records", "nowhere"), "no folder nowhere"),
    ],
)
def test_what_cannot_be_verified_is_said_before_anything_runs(
    tmp_path: Path, published: Path, bench: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    done = bench("verify", *RUN, "--records", "first", "--seeds", "5-6", *words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "verified").exists()


def test_other_versions_and_other_data_are_refused(tmp_path: Path, published: Path, bench: Callable[..., Any]) -> None:
    for change, said in (
        (("provenance", "packages", "mujoco", "3.3.0"), "the row was made with mujoco==3.3.0, and here is mujoco=="),
        (("identity", "data", "sha256", "0" * 64), "and the row was trained on 00000000"),
    ):
        kept = {path: path.read_text() for path in published.glob("*.json")}
        for path, text in kept.items():
            content = json.loads(text)
            content[change[0]][change[1]][change[2]] = change[3]
            path.write_text(json.dumps(content))
        done = bench("verify", "identity", *RUN, "--records", "first")
        assert (done.code, said in done.err) == (2, True), done.err
        for path, text in kept.items():
            path.write_text(text)
    assert not (tmp_path / "verified").exists()


def test_the_same_kind_of_machine_confirms_nothing(tmp_path: Path, own: Path, bench: Callable[..., Any]) -> None:
    done = bench("verify", "identity", *RUN, "--records", "first", "--seeds", "5-6")
    assert done.out.splitlines()[-1].startswith("the same kind of machine as the row's, so the board does not count it")
    submit = ("submit", "--to", str(tmp_path / "board" / "records"), "--allow-smoke", "--allow-dirty")
    assert bench(*submit, "first").code == 0
    refused = bench(*submit, "verified", "--verification")
    assert (refused.code, "the same kind of machine" in refused.err) == (2, True)
