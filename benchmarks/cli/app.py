"""The command ``bench``. Heavy imports happen inside the command that needs them, so that help is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backbench import __version__
from backbench.benchmarks.cli.data import data_app
from backbench.benchmarks.data.sources.registry import NAMES as SOURCES

app = typer.Typer(
    help="Which sequence backbone makes the best decision maker, and at what cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")

Results = Annotated[Path, typer.Option("--out", help="Folder of records, checkpoints and the tracking database.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"backbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    os.environ.setdefault("MUJOCO_GL", "disabled")


@app.command()
def run(
    backbone: Annotated[str, typer.Option(help="Names, comma-separated; or package.module:Class.")],
    suite: Annotated[str, typer.Option(help="Suite of tasks: a name, or the path of a YAML file.")] = "d4rl",
    preset: Annotated[str, typer.Option(help="smoke (seconds), quick (minutes), paper (as published).")] = "quick",
    task: Annotated[str, typer.Option(help="Only these tasks of the suite, comma-separated.")] = "",
    seeds: Annotated[str, typer.Option(help="How many seeds (3 is 0,1,2), or a list such as 4,7.")] = "1",
    data: Annotated[str, typer.Option(help=f"Data source instead of the preset's: {', '.join(SOURCES)}.")] = "",
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side; 0: one a core, or one on a GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Results = Path("results"),
    track: Annotated[
        str, typer.Option(help="MLflow tracking URI, or none. Default: sqlite in the results folder.")
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, e.g. train.lr=1e-4,1e-3 or backbone.window=12; commas make a grid."),
    ] = None,
) -> None:
    """Train and evaluate backbones on a suite, then print the board. The same command again does what is left."""
    from backbench.benchmarks.run.invocation import Invocation, invoke

    named = [text.removeprefix("suite=") for text in overrides or () if text.startswith("suite=")]
    overrides = [text for text in overrides or () if not text.startswith("suite=")]
    suite = named[-1] if named else suite
    raise typer.Exit(
        invoke(
            Invocation(
                backbones=_split(backbone),
                suite=suite,
                preset=preset,
                tasks=_split(task),
                seeds=_seeds(seeds),
                source=data or None,
                jobs=jobs,
                device=device,
                out=out,
                track=track or None,
                overrides=tuple(overrides or ()),
            )
        )
    )


@app.command("list")
def list_(what: Annotated[str, typer.Argument(help="backbones, suites, tasks or presets.")] = "backbones") -> None:
    """Say what there is."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.plan import compose, suites
    from backbench.errors import UserError, suggest

    kinds = ["backbones", "suites", "tasks", "presets"]
    if what == "backbones":
        for name in BACKBONES.names():
            print(f"{name:<16} {BACKBONES.origin(name)}")
    elif what == "suites":
        for content in suites.tables():
            print(f"{content.name:<16} {len(content.tasks):>3} tasks  {content.description}".rstrip())
    elif what == "tasks":
        for content in suites.tables():
            for name, row in content.tasks.items():
                print(f"{content.name:<16} {name:<28} data: {', '.join(row.sources)}")
    elif what == "presets":
        print("\n".join(compose.presets()))
    else:
        raise UserError(f"cannot list '{what}'{suggest(what, kinds)}")


@app.command()
def check(
    backbone: Annotated[str, typer.Argument(help="Name, or package.module:Class.")],
    options: Annotated[list[str] | None, typer.Argument(help="Options of the backbone, key=value.")] = None,
) -> None:
    """Run the contract on a backbone: shapes, causality, step against forward, reset, gradients, repeatability."""
    from rich.console import Console
    from rich.table import Table

    from backbench.backbones.check import check as run_checks

    results = run_checks(backbone, _options(options or []))
    table = Table(box=None, pad_edge=False)
    for name in ("", "check", "measured"):
        table.add_column(name)
    for result in results:
        table.add_row("[green]ok[/]" if result.passed else "[red]FAILED[/]", result.name, result.detail)
    console = Console()
    console.print(table)
    failed = sum(not result.passed for result in results)
    console.print(f"{backbone}: {len(results) - failed} of {len(results)} checks passed")
    raise typer.Exit(1 if failed else 0)


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


@app.command()
def leaderboard(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of results or of records; default: results, with --check leaderboard/published/records."
        ),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, json or html.")] = "terminal",
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing; for html a folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Look for problems in a leaderboard: 1 if any.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: a warning counts as a problem.")] = False,
    since: Annotated[
        str | None, typer.Option(help="With --check: records may only have been added since this git revision.")
    ] = None,
) -> None:
    """Print or write the board of all records in one or more folders (default: results), or check a leaderboard."""
    from backbench.benchmarks.run.invocation import read_records
    from backbench.errors import UserError, suggest
    from backbench.leaderboard.__main__ import FOLDER, run_check
    from backbench.leaderboard.record.files import RecordError
    from backbench.leaderboard.views.export import FORMATS, export, verifications_of

    if format_ not in FORMATS:
        raise UserError(f"unknown format '{format_}'{suggest(format_, FORMATS)}")
    try:
        if check:
            if out is not None or len(results or ()) > 1:
                raise UserError("--check: give one folder and no --out")
            raise typer.Exit(run_check((results or [FOLDER])[0], strict, since))
        if strict or since is not None:
            raise UserError("--strict and --since say what --check looks for: give --check too")
        records, verifications, broken = [], [], 0
        for folder in results or [Path("results")]:
            if not folder.is_dir():
                raise UserError(f"no folder {folder}; run something first: bench run --backbone gloma --suite d4rl")
            good, bad = read_records(folder)
            records += good
            broken += bad
            verifications += verifications_of(folder)
        export(records, format_, out, verifications)
    except RecordError as error:
        raise UserError(str(error)) from error
    raise typer.Exit(1 if broken else 0)


@app.command()
def submit(
    results: Annotated[Path, typer.Argument(help="Folder of results, or of records.")] = Path("results"),
    to: Annotated[Path, typer.Option(help="The leaderboard's folder of records.")] = Path(
        "leaderboard/published/records"
    ),
    allow_smoke: Annotated[bool, typer.Option("--allow-smoke", help="Take records of preset smoke too.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Take those whose code is not known.")] = False,
) -> None:
    """Check finished records and copy them into the leaderboard: all of them or none, and none in place of another."""
    from backbench.errors import UserError
    from backbench.leaderboard.record.files import RecordError
    from backbench.leaderboard.trust.submit import submit as submit_

    try:
        done = submit_(results, to, allow_smoke=allow_smoke, allow_dirty=allow_dirty)
    except RecordError as error:
        raise UserError(str(error)) from error
    for name in done.new:
        print(f"new: {to / name}")
    then = "; next: make leaderboard" if done.new else ""
    print(f"{len(done.new)} records submitted, {len(done.same)} were there already{then}")


@app.command()
def reproduce(
    record: Annotated[Path, typer.Argument(help="Path of a record.")],
    out: Annotated[Path, typer.Option(help="Fresh folder of the new record and its checkpoints.")] = Path("reproduced"),
    data: Annotated[Path | None, typer.Option(help="Store of data sets instead of the user's own.")] = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="Put the new record among the verifications, if this is another machine.")
    ] = False,
    to: Annotated[Path, typer.Option(help="Folder of verifications.")] = Path("leaderboard/published/verifications"),
) -> None:
    """Make a cell again from its record alone: equal bits, equal score, or by how much it differs (then 1)."""
    from backbench.benchmarks.replay.reproduce import reproduce as again

    if data is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(data.absolute())
    raise typer.Exit(again(record, out, to if submit else None).status)


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
        backbones=_split(backbone),
        options=_options(overrides or []),
        model=ModelConfig(d_model=d_model, n_layers=n_layers, context=context, dropout=0.1),
        batch_size=batch_size,
        lengths=_numbers("--lengths", lengths),
        peers=peers,
        parts=_split(parts) or tuple(PARTS),
        threads=threads,
        repeats=repeats,
        budget=budget,
        bf16=bf16,
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is imported
    from backbench.benchmarks.speed.run import speed as measure

    raise typer.Exit(measure(config, device, out, markdown))


@app.command()
def watch(
    record: Annotated[str, typer.Argument(help="Path of a record, or a part of its key that no other one has.")],
    results: Annotated[Path, typer.Option(help="Folder of records and checkpoints.")] = Path("results"),
    episode: Annotated[int, typer.Option(help="Number of the evaluation's episode, from 0.")] = 0,
    target: Annotated[
        float | None, typer.Option(help="One of the record's target returns; default: the first.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("watch"),
    frames: Annotated[int, typer.Option(min=1, help="Pictures of the strip.")] = 12,
    video: Annotated[bool, typer.Option(help="Make a video as well.")] = True,
    max_steps: Annotated[int, typer.Option(min=0, help="Play no further; 0: the whole episode.")] = 0,
) -> None:
    """Play an episode of a record's evaluation again, to the bit, and make pictures of it: a strip and a video."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the record's own number comes later
    from backbench.benchmarks.replay.watch import watch as play

    print("\n".join(play(record, results, episode, target, out, frames, video, max_steps)))


@app.command()
def ui(
    out: Results = Path("results"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page on the results, on this machine only."""
    from backbench.errors import UserError

    database = out.absolute() / "mlflow.db"
    if not database.is_file():
        raise UserError(f"no tracking database {out / 'mlflow.db'}; run something first, or name its folder with --out")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = [
        "--backend-store-uri",
        f"sqlite:///{database}",
        "--default-artifact-root",
        str(out.absolute() / "mlartifacts"),
    ]
    os.execv(sys.executable, [*command, *store])


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _seeds(text: str) -> tuple[int, ...]:
    from backbench.errors import UserError

    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text}: give a count such as 3, or a list such as 0,1,2") from error
    seeds = tuple(range(numbers[0])) if len(numbers) == 1 else tuple(numbers)
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text}: give at least one seed, none below 0")
    return seeds


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    from backbench.errors import UserError

    try:
        return tuple(int(part) for part in _split(text))
    except ValueError as error:
        raise UserError(f"{flag} {text}: give whole numbers, such as 20,64,256") from error


def _options(pairs: list[str]) -> dict[str, Any]:
    import yaml

    from backbench.errors import UserError

    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"option '{pair}': write key=value")
        options[key.removeprefix("backbone.")] = yaml.safe_load(value)
    return options


def main() -> None:
    """Entry point. A mistake of the user's is one line on stderr and exit status 2."""
    from backbench.errors import UserError

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
    from backbench.errors import suggest

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
