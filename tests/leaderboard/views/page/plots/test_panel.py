"""How rows are drawn: marker, dash, colour and name."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np

from backbench.leaderboard.views.page.markup import asset
from backbench.leaderboard.views.page.plots.panel import MARKERS, Style, shorten

CSS = asset("page.css")


def test_a_row_is_known_without_its_colour() -> None:
    styles = [Style(f"r{index}", f"row {index}", index) for index in range(12)]
    shapes = {(index % len(MARKERS), style.dash, style.colour) for index, style in enumerate(styles)}
    assert len(shapes) == 12
    marks = [re.sub(r"k\d|r\d+", "", style.marker(0, 0)) for style in styles]
    assert len(set(marks[: len(MARKERS)])) == len(MARKERS)


def test_long_names_are_truncated() -> None:
    assert shorten("transformer", 14) == "transformer"
    assert shorten("mamba (match=params:transformer)", 14) == "mamba (…)"
    assert shorten("a-backbone-of-somebody", 14) == "a-backbone-of…"


# Machado et al. 2009, severity 1: linear RGB as seen without the long, the middle or the short cones.
VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    share = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_differ_for_colour_blind_readers() -> None:
    palettes = re.findall(
        r"--panel: (#\w+);.*?" + "".join(rf"--c{index}: (#\w+);.*?" for index in range(8)), CSS, re.DOTALL
    )
    assert len(palettes) == 3
    assert palettes[1] == palettes[2]  # chosen by button or by the system
    for panel, *colours in palettes:
        ground = linear(panel if len(panel) == 7 else "#" + panel[1:] * 2) @ XYZ[1]  # "#fff"
        for vision in VISIONS:
            seen = [lab(vision @ linear(colour)) for colour in colours]
            assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10
        for colour in colours:
            dim, bright = sorted((ground, linear(colour) @ XYZ[1]))
            assert (bright + 0.05) / (dim + 0.05) > 3
