"""Plots in tests: styles of a section's rows, and a panel as a tree."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from backbench.leaderboard.views.page.plots.panel import Style


def styles_of(section: dict[str, Any]) -> dict[str, Style]:
    return {row["id"]: Style(row["id"], row["label"], index) for index, row in enumerate(section["rows"])}


def parse(svg: str) -> ElementTree.Element:
    """The panel as a tree; it is well-formed XML as well."""
    return ElementTree.fromstring(svg)
