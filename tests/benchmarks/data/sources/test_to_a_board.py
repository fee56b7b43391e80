"""``bench run`` with published data that are not here: fetched, checked, trained on, a row on a board of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from d4rl_files import ARRAYS, NAME, Server
from gymnasium.spaces import Box
from hub_server import buffers, make, publish
from hub_server import serving as serving_hub

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import d4rl
from backbench.benchmarks.plan import suites
from backbench.leaderboard.record.files import load_record

RUN = ("run", "--backbone", "mlp", "--task", "hopper-medium", "--preset", "smoke", "--track", "none")


def records(folder: Path) -> list[Any]:
    return [load_record(path) for path in sorted((folder / "results" / "records").glob("*.json"))]


def test_d4rl_s_file_from_a_server_to_a_row(
    new_store: Path, tmp_path: Path, server: Server, digest: str, bench: Callable[..., Any]
) -> None:
    where = {d4rl.VARIABLE: server.url, "NO_PROXY": "*"}
    server.faults = [("cut", 4000)]  # the connection breaks; the rest is asked for
    ran = bench(*RUN, "--data", "d4rl", **where)
    assert ran.code == 0, ran.err + ran.out
    assert server.asked[1][1] == "bytes=4000-"
    assert f"{NAME}: 3 episodes, 51 steps, sha256 {digest}" in ran.err
    assert "skipped the last 4 steps, an incomplete episode" in ran.err
    assert "1. d4rl, data d4rl, preset smoke" in ran.out
    (record,) = records(tmp_path)
    assert (record.identity.source, record.identity.environment) == ("d4rl", "Hopper-v4")
    assert (record.identity.data.sha256, record.identity.data.episodes) == (digest, 3)
    assert record.protocol.targets == (3600.0, 1800.0)
    returns = [ARRAYS["rewards"][begin:end].astype(np.float64).sum() for begin, end in ((0, 30), (30, 31), (31, 51))]
    assert record.identity.data.return_mean == pytest.approx(np.mean(returns))
    assert "127.0.0.1" not in record.model_dump_json()
    asked = len(server.asked)
    again = bench(*RUN, "--data", "d4rl", "--seeds", "2", **where)
    assert again.code == 0, again.err
    assert len(server.asked) == asked, "the data set was fetched once more"
    # No fallback: another source is another set, which is not here.
    other = bench(*RUN, "--data", "minari", HF_ENDPOINT="http://127.0.0.1:9", NO_PROXY="*")
    assert other.code == 2
    assert "bench data pull minari mujoco/hopper/medium-v0" in other.err


def test_minari_s_set_of_the_same_name_is_in_another_table(
    new_store: Path, tmp_path: Path, server: Server, bench: Callable[..., Any]
) -> None:
    theirs = "mujoco/hopper/medium-v0"
    organisation = tmp_path / "organisation"
    make(
        organisation,
        theirs,
        buffers([40, 30], width=11, actions=3),
        Box(-np.inf, np.inf, (11,), np.float64),
        Box(-1, 1, (3,)),
    )
    publish(organisation)
    with serving_hub(organisation) as hub:
        where = {
            d4rl.VARIABLE: server.url, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*",
            "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0",
        }  # fmt: skip
        for source in ("d4rl", "minari"):
            ran = bench(*RUN, "--data", source, **where)
            assert ran.code == 0, ran.err + ran.out
    assert store.exists(theirs)
    ours = {record.identity.source: record for record in records(tmp_path)}
    assert ours["minari"].identity.environment == "Hopper-v5"
    assert ours["minari"].identity.data.sha256 == store.read(theirs).digest != ours["d4rl"].identity.data.sha256
    assert len(ours["minari"].protocol.targets) == 2
    assert suites.resolve("d4rl", "hopper-medium", "minari").targets == ()
    board = bench("leaderboard").out
    assert "data d4rl, preset smoke" in board
    assert "data minari, preset smoke" in board
    assert "source 'minari' instead of 'd4rl'" in " ".join(board.split())
