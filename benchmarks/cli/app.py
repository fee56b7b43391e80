"""The command ``bench``. Each command imports heavy packages when it runs, so that help is instant."""

import os
import sys
from typing import Annotated, Any

import typer

from backbench import __version__, terminal
from backbench.benchmarks.cli import backbones, board, doctor, replay, run
from backbench.benchmarks.cli.data import data_app
from backbench.benchmarks.cli.speed import speed
from backbench.benchmarks.cli.study import study
from backbench.errors import UserError, suggest
from backbench.text import plain

app = typer.Typer(
    help="Which sequence backbone makes the best decision maker, and at what cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        terminal.line(f"backbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    os.environ.setdefault("MUJOCO_GL", "disabled")


app.command()(run.run)
app.command()(run.status)
app.command("list")(backbones.list_)
app.command()(backbones.cite)
app.command()(backbones.check)
app.command()(doctor.doctor)
app.command()(board.leaderboard)
app.command()(board.submit)
app.command()(board.merge)
app.command()(replay.reproduce)
app.command()(replay.verify)
app.command()(speed)
app.command()(study)
app.command()(replay.watch)
app.command()(replay.export)
app.command()(replay.ui)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point. A mistake of the user's is one line on stderr and exit status 2."""
    code: object
    terminal.ready()
    try:
        if sys.platform != "linux":  # owners of claims, memory limits and read-ahead come from Linux
            raise UserError(f"Backbench needs Linux, and this is {sys.platform}; run it in a container (Dockerfile)")
        if odd := [word for word in sys.argv if any("\udc80" <= char <= "\udcff" for char in word)]:
            raise UserError(f"'{odd[0]}' is not UTF-8; rename the file or folder")
        code = app(standalone_mode=False)
        terminal.finish()
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except UserError as error:
        code = _fail(str(error))
    except OSError as error:
        code = _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        # Typer's own mistakes of usage; some versions of it bring their own copy of click, so go by what they offer.
        if not hasattr(error, "format_message"):
            raise
        code = _fail(_one_line(error)) if error.format_message() else 2  # empty: the help was printed instead
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Any) -> str:
    """A usage error with its parameter, and with what is close to a mistyped option."""
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    if wrong and context is not None:
        known = [name for p in context.command.params for name in p.opts if name.startswith("--")]
        return f"no option {wrong}{suggest(wrong, known)}"
    text = str(error.format_message())
    return text if context is None else f"{text} ({context.command_path} --help says more)"


def _fail(message: str, code: int = 2) -> int:
    terminal.line(f"bench: {plain(message)}", error=True)
    return code
