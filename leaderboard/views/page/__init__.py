"""The HTML pages of a board: one page with every table and plot, and one for each row with its provenance."""

from backbench.leaderboard.views.page.build import LIMIT, build

__all__ = ["LIMIT", "build"]
