"""The terminal: the only module that prints.

Nothing that it shows is read as markup or obeyed as a control code. A character that the terminal cannot encode is
replaced. A reader that closes the pipe, as ``head`` does, ends the output and not the work.
"""

from __future__ import annotations

import codecs
import os
import sys
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from backbench.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# What stands for a character that an encoding such as ASCII lacks; a question mark for all others.
_SIMILAR = {
    "–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "…": "~", "×": "x", "±": "+-", "█": "#", "’": "'", "→": "->",
    "≤": "<=", "≥": ">=", "µ": "u", "·": ".", "│": "|",
}  # fmt: skip


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SIMILAR.get(char, "?") for char in error.object[error.start : error.end]), error.end


def ready() -> None:
    """Prepare the standard streams; an entry point calls it first.

    Where the locale's encoding is not UTF-8, the process starts again with names of files in UTF-8: libraries in other
    languages read them so. What the terminal can show stays as the locale says.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING") or encoding}
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    codecs.register_error("similar", _similar)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by the caller: a file opened later would get its number, and our output
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="similar")


def finish() -> None:
    """Send what is buffered; OSError if that fails for another reason than a closed pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _unread(sys.stdout)


def _unread(stream: IO[str]) -> None:
    """Nobody reads this stream any more: what follows goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@cache
def _kind() -> type[Console]:
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        """A console that shows every text as it is."""

        def render_str(self, text: str, **rest: Any) -> Text:
            return super().render_str(visible(text, "\n\t"), **rest)

        def render(self, renderable: Any, options: Any = None) -> Any:
            for part in super().render(renderable, options):
                yield part if part.control or part.text.isprintable() else Segment(visible(part.text, "\n"), part.style)

        def on_broken_pipe(self) -> None:
            _unread(self.file)

    return Plain


def console(error: bool = False, width: int | None = None, file: IO[str] | None = None) -> Console:
    """A console on standard output, on standard error, or on ``file``. Strings in what it prints are never markup."""
    # In a notebook Rich would draw into the cell whatever the file is.
    return _kind()(
        stderr=error, width=width, file=file, markup=False, emoji=False, highlight=False, force_jupyter=False
    )


def live(to: Console) -> bool:
    """Whether lines can be drawn again in place. FORCE_COLOR makes Rich take a log for a terminal, which it is not."""
    return to.is_terminal and not to.is_dumb_terminal and to.file.isatty()


def say(to: Console, text: str, style: str | None = None) -> None:
    """Print one line as it is, not wrapped. An end of a line inside it is escaped."""
    to.print(visible(text), style=style, soft_wrap=True)


def line(text: str, error: bool = False) -> None:
    """Print one line as it is, without a console and its imports. An end of a line inside it is escaped."""
    write(f"{visible(text)}\n", error)


def write(text: str, error: bool = False) -> None:
    """Print lines as they are, ending as ``text`` does."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(visible(text, "\n\r\t"), end="", file=stream, flush=True)
    except BrokenPipeError:
        _unread(stream)


def styled(text: str, style: str) -> Text:
    """``text`` in a colour, for a table's cell."""
    from rich.text import Text as Styled

    return Styled(visible(text, "\n"), style)
