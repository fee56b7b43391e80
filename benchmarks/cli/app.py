"""The command ``bench``. Each command imports heavy packages when it runs, so that help is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backbench import __version__
from backbench.benchmarks.cli import backbones, board, replay, run, words
from backbench.benchmarks.cli.data import data_app
from backbench.errors import UserError, suggest

app = typer.Typer(
    help="Which sequence backbone makes the best decision maker, and at what cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"backbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    os.environ.setdefault("MUJOCO_GL", "disabled")


app.command()(run.run)
app.command("list")(backbones.list_)
app.command()(backbones.check)
app.command()(board.leaderboard)
app.command()(board.submit)
app.command()(replay.reproduce)
app.command()(replay.watch)
app.command()(replay.ui)
app.add_typer(data_app, name="data")


@app.command()
def doctor(
    json_: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what is here, what is missing, what that would bring, and how to get it; 1 if nothing can run."""
    import json

    from backbench.benchmarks.cli.doctor import examine, show

    report = examine()
    if json_:
        print(json.dumps(report, indent=2))
    else:
        from rich.console import Console

        show(report, Console())
    raise typer.Exit(0 if report["ready"] else 1)


# A command has as many parameters as flags.
@app.command()
def speed(
    backbone: Annotated[str, typer.Option(help="Names, comma-separated; or package.module:Class.")] = (
        "transformer,mamba,gloma"
    ),
    peers: Annotated[bool, typer.Option("--peers", help="Other packages' implementations too.")] = False,
    lengths: Annotated[str, typer.Option(help="Contexts in tokens, comma-separated.")] = "20,64,256,1024",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of an operation on the CPU.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of speed.json and speed.png.")] = Path("speed"),
    repeats: Annotated[int, typer.Option(help="Timed runs of everything, at most.")] = 7,
    budget: Annotated[float, typer.Option(help="Seconds of timed runs, about; 0: 180, or 360 with peers.")] = 0,
    parts: Annotated[str, typer.Option(help="Some of training,lengths,latency,acting,memory,kernels.")] = "",
    d_model: Annotated[int, typer.Option(help="Width of a token.")] = 128,
    n_layers: Annotated[int, typer.Option(help="Layers.")] = 3,
    context: Annotated[int, typer.Option(help="K, steps of a window, where the length is not varied.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Windows in a batch at that length.")] = 64,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train under autocast to bfloat16.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Print the tables of this speed.json instead of measuring.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Options of the backbones, backbone.key=value.")] = None,
) -> None:
    """Measure training, acting, memory and kernels of backbones on this machine, beside their peers."""
    from backbench.benchmarks.plan.settings import ModelConfig
    from backbench.benchmarks.speed.config import PARTS, SpeedConfig

    if from_ is not None:
        from backbench.benchmarks.speed.report import read
        from backbench.benchmarks.speed.tables import show

        show(read(from_), markdown)
        return
    config = SpeedConfig(
        backbones=words.split(backbone),
        options=words.options(overrides or []),
        model=ModelConfig(d_model=d_model, n_layers=n_layers, context=context, dropout=0.1),
        batch_size=batch_size,
        lengths=_numbers("--lengths", lengths),
        peers=peers,
        parts=words.split(parts) or tuple(PARTS),
        threads=threads,
        repeats=repeats,
        budget=budget,
        bf16=bf16,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is imported
    from backbench.benchmarks.speed.run import speed as measure

    raise typer.Exit(measure(config, device, out, markdown))


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in words.split(text))
    except ValueError as error:
        raise UserError(f"{flag} {text}: give whole numbers, such as 20,64,256") from error


def main() -> None:
    """Entry point. A mistake of the user's is one line on stderr and exit status 2."""
    code: object
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except UserError as error:
        code = _fail(str(error))
    except BrokenPipeError:  # `bench ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
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
    print(f"bench: {' '.join(message.split())}", file=sys.stderr)
    return code
