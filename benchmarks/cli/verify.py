"""``bench verify``: run a row of the leaderboard again with other seeds, and compare."""

from pathlib import Path
from typing import Annotated

import typer

from backbench import terminal
from backbench.benchmarks.cli import words
from backbench.benchmarks.cli.run import Where, carry_out
from backbench.benchmarks.plan.request import Request
from backbench.errors import UserError

RECORDS = Path("leaderboard/published/records")


# A command has as many parameters as flags.
def verify(
    backbone: Annotated[
        str, typer.Argument(help="Backbone of the row, as in bench run.", autocompletion=words.backbones)
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="The row's overrides of the preset.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds that the row does not have, such as 10-19.")] = "10-19",
    suite: Annotated[str, typer.Option(help="The row's suite.", autocompletion=words.suites)] = "d4rl",
    preset: Annotated[str, typer.Option(help="The row's preset.", autocompletion=words.presets)] = "quick",
    data: Annotated[str, typer.Option(help="The row's data source.", autocompletion=words.sources)] = "",
    records: Annotated[Path, typer.Option(help="The leaderboard's folder of records.")] = RECORDS,
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side. 0: one per core, or one on a GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the new records.")] = Path("verified"),
) -> None:
    """Run a row with other seeds and compare the means: verified, consistent or different (then exit 1).

    Run the same command again to resume. `bench submit verified --verification` adds the records.
    """
    from backbench.benchmarks.plan.compose import plan
    from backbench.benchmarks.replay import verify as rows
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.results import finished
    from backbench.benchmarks.run.runner import remaining

    names = words.backbone_names(backbone)
    if len(names) != 1:
        raise UserError(f"'{backbone}': give the backbone of one row")
    asked = words.seeds(seeds, 10_000)
    request = Request(names, suite, preset, seeds=asked, source=data or None, overrides=tuple(overrides or ()))
    cells = plan(request)
    if len({cell.variant for cell in cells}) > 1:
        raise UserError("the overrides make more than one row; give no comma lists")
    published = rows.PublishedRow.row_of(cells, records)
    published.check_versions(provenance.packages())
    published.check_data()
    where = Where(jobs, device, out)
    left = remaining(cells, out)
    status = carry_out(request, where, cells, left, terminal.console())[0] if left else 0
    if status > 128:
        raise typer.Exit(status)
    found = [finished(cell, out) for cell in cells]
    new = [record for record in found if record is not None]
    if len(new) < len(cells):
        raise UserError(f"{len(cells) - len(new)} of {len(cells)} cells failed, so there is no verdict; see above")
    raise typer.Exit(rows.compare(published, new))
