"""Pictures of games and robots, and videos of them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbench.benchmarks.replay import pictures


def test_a_renderer_that_cannot_be_loaded_gives_none() -> None:
    assert pictures._rendered("Hopper-v5", np.zeros((1, 6)), "nothing") is None


@pytest.mark.parametrize(("env_id", "nq"), [("Hopper-v5", 6), ("HalfCheetah-v5", 9), ("Walker2d-v5", 9)])
def test_the_view_follows_the_robot(env_id: str, nq: int) -> None:
    positions = np.zeros((3, nq))
    positions[:, 1] = 1.2 if env_id != "HalfCheetah-v5" else 0.0
    positions[1, 0], positions[2, 0] = 1.0, 0.5
    here, a_metre_on, half = pictures.drawn(env_id, positions)
    assert here.shape == (pictures.HEIGHT, pictures.WIDTH, 3)
    assert here.dtype == np.uint8

    assert np.array_equal(here[:170], a_metre_on[:170]), "only the marks' names may differ"
    assert not np.array_equal(here, half), "one does not see it move"
    body = (here[:170] != here[0, 0]).any(axis=2)
    assert 0.01 < body.mean() < 0.5
    assert not body[:, :10].any()
    assert not body[:3].any()


def test_game_pixels_are_enlarged_without_blending() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (84, 84), dtype=np.uint8)
    large = pictures.game_picture(frame)
    assert large.shape == (252, 252, 3)
    assert np.array_equal(large[1::3, 2::3, 0], frame)
    assert np.array_equal(large[..., 0], np.kron(frame, np.ones((3, 3), dtype=np.uint8)))


def test_video_is_mp4_with_an_encoder_and_gif_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def write_frames(path: str, size: tuple[int, int], fps: float, **_: Any) -> Any:
        asked.append((size, fps))
        with Path(path).open("wb") as file:
            while True:
                file.write((yield))

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(write_frames=write_frames))
    shades = [np.full((5, 6, 3), shade, dtype=np.uint8) for shade in (1, 2)]
    path = pictures.write_video(tmp_path / "a.b-t1.5", shades, 0.05)
    assert path == tmp_path / "a.b-t1.5.mp4"
    assert asked == [((6, 4), 20.0)]
    assert path.read_bytes() == bytes([1] * 72 + [2] * 72)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    film = pictures.write_video(tmp_path / "a.b-t1.5", shades, 0.05)
    assert film == tmp_path / "a.b-t1.5.gif"
    with Image.open(film) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (2, (6, 5), 50)
