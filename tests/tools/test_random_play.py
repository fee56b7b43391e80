"""Random play from the starts of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import random_play

from backbench.benchmarks.environments.atari.kind import AtariBatch
from backbench.benchmarks.environments.atari.protocol import AtariProtocol


def test_returns_repeat_and_equal_those_of_a_plain_loop() -> None:
    protocol = AtariProtocol(max_frames=4 * 120)
    found = random_play.play("breakout", 3, 7, protocol)
    assert found.tolist() == random_play.play("breakout", 3, 7, protocol).tolist()
    starts = np.random.SeedSequence(7).generate_state(3)
    for number, start in enumerate(starts):
        rng, batch = np.random.default_rng([7, number]), AtariBatch("breakout", 1, protocol)
        batch.reset([int(start)])
        total, steps, over = 0.0, 0, False
        while not over and steps < protocol.max_steps:
            _, rewards, ended = batch.step([0], np.array([rng.integers(4)]))
            total, steps, over = total + rewards[0], steps + 1, bool(ended[0])
        batch.close()
        assert total == found[number]


def test_command_prints_one_line_a_game(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(random_play, "play", lambda *_: np.array([2.0, 4.0]))
    random_play.main(["--episodes", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["breakout", "qbert", "pong", "seaquest"]
    assert "3.0 (2.0, 4.0)" in lines[0]
    assert lines[0].endswith(f"{100 * (3 - 2) / 28:.1f}")
