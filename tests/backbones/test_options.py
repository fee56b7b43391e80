"""Options are checked, and every mistake is one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from backbench.backbones import BACKBONES, UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.options import make_options

SPEC = Spec(d_model=16, n_layers=2, max_length=14)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mamba", {"d_stat": 4}, "did you mean 'd_state'"),
        ("mamba", {"d_state": "x"}, "type int"),
        ("mamba", {"d_state": True}, "type int"),
        ("mamba", {"d_state": 0}, "d_state=0"),
        ("mamba", {"activation": "gellu"}, "did you mean 'gelu'"),
        ("mamba", {"kernels": "cuda"}, "no implementation 'cuda'"),
        ("transformer", {"n_heads": 3}, "d_model=16 is not a multiple of n_heads=3"),
        ("gloma", {"window": 1, "share_weights": True}, "window=1 has 3 tokens, and needs more than d_conv=4"),
        ("gloma", {"fusion": "summ"}, "did you mean 'sum'"),
        ("gloma", {"branches": "global", "fusion": "gated"}, "branches=global is one branch"),
        ("gloma", {"windows": [2, 0]}, "give integers of at least 1"),
        ("gloma", {"share_weights": True, "d_state": 8}, "share_weights needs"),
        ("identity", {"x": 1}, "unknown option 'x' of Identity"),
        ("gloma", 3, "expected a mapping"),
    ],
)
def test_wrong_options_are_one_line_with_the_remedy(name: str, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(name, options, SPEC)
    assert "\n" not in str(caught.value)


def test_options_accept_literals_unions_and_tuples() -> None:
    @dataclass(frozen=True)
    class Rich:
        kind: Literal["a", "b"]
        size: int | None = None
        rate: float = 1.0
        sizes: tuple[int, ...] = ()

    assert make_options(Rich, {"kind": "a", "size": None, "rate": 2, "sizes": [1]}) == Rich("a", None, 2.0, (1,))
    for values, message in (
        ({"kind": "c"}, "known: a, b"),
        ({"kind": "a", "size": "x"}, "give a value of type int"),
        ({}, "no value for kind"),
    ):
        with pytest.raises(UserError, match=message):
            make_options(Rich, values)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_options_fit_a_structured_configuration(name: str) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    options = BACKBONES.get(name).Options
    config = omegaconf.OmegaConf.structured(options)
    assert make_options(options, omegaconf.OmegaConf.to_container(config)) == options()
