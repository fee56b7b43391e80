"""One measurement: wrong settings, and an interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from speed_settings import tiny

from backbench.benchmarks.speed.run import measure
from backbench.errors import UserError


def test_a_wrong_backbone_or_option_is_raised() -> None:
    with pytest.raises(UserError, match="unknown backbone 'mambo'; did you mean 'mamba'"):
        measure(tiny("mambo"))
    with pytest.raises(UserError, match="unknown option 'd_stat' of Mamba; did you mean 'd_state'"):
        measure(tiny("mamba", options={"d_stat": 3}))
    with pytest.raises(UserError, match="n_heads=3; change one of them"):
        measure(tiny("transformer", options={"n_heads": 3}))


def test_ctrl_c_ends_it_and_writes_nothing(tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("bench")),
        "speed",
        "--backbone",
        "mamba",
        "--parts",
        "lengths",
        "--out",
        str(tmp_path),
    ]
    # Whoever was started in the background of a script ignores SIGINT, and so would its children.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    assert process.stderr is not None
    said = process.stderr.readline()
    while "lengths" not in said:
        said = process.stderr.readline()
        assert said
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
