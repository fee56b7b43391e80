"""What theory says of each architecture, at length 10,000: with weights set by hand, or for any weights.

docs/explanation/theory.md has the table.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from weights_by_hand import (
    LENGTH,
    START,
    blank,
    counter,
    counting_tokens,
    delta_rotation,
    delta_signs,
    keeper,
    mamba_signs,
    random_marks,
)

from backbench.backbones import BACKBONES, make_options
from backbench.backbones.contract import ALL, LAST, Spec, map_state
from backbench.backbones.kernels import diagonal_recurrence

NONLINEAR = ("gru", "lstm", "slstm")
MARKS = random_marks()


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def signs(negative: str) -> Any:
    return mamba_signs("negative") if negative == "mamba" else delta_signs(negative, negative=True)


# Parity


@pytest.mark.parametrize("name", ["mamba", "deltanet", "gated_deltanet"])
def test_negative_eigenvalues_compute_parity(name: str) -> None:
    y = signs(name)(counting_tokens(MARKS))[0, :, 0]
    assert torch.equal(y.sign(), 1.0 - 2 * (MARKS.cumsum(0) % 2))


@pytest.mark.parametrize("modulus", [2, 3])
@pytest.mark.parametrize("name", NONLINEAR)
def test_recurrences_that_are_not_linear_count_marks_modulo_2_and_3(name: str, modulus: int) -> None:
    y = counter(name, modulus)(counting_tokens(MARKS))[0, :, :modulus]
    assert torch.equal(y.argmax(-1), MARKS.cumsum(0) % modulus)


# On equal tokens a linear recurrence with real eigenvalues is a sum of exponentials, one for each entry of its state.
# With positive eigenvalues such a sum changes its sign less often than it has exponentials, whatever the weights.
# Parity changes it with each token. With negative eigenvalues the bound holds for every second token, where they are
# squared: parity is constant there, and modulo 3 is not.
POSITIVE: dict[str, dict[str, Any]] = {
    "mamba": {"d_state": 4}, "mamba2": {"n_heads": 1, "d_state": 4}, "gla": {"n_heads": 1}, "hgrn2": {"n_heads": 1},
    "linear_attention": {"n_heads": 1}, "mlstm": {"n_heads": 1}, "deltanet": {"n_heads": 1}, "mingru": {}, "rglru": {},
    "gated_deltanet": {"n_heads": 1},
}  # fmt: skip
NEGATIVE: dict[str, dict[str, Any]] = {
    "mamba": {"d_state": 4, "eigenvalues": "negative"}, "deltanet": {"n_heads": 1, "negative": True},
    "gated_deltanet": {"n_heads": 1, "negative": True}, "rwkv7": {"n_heads": 1, "rank": 2},
}  # fmt: skip


def turns(y: Tensor) -> int:
    """The most changes of sign along the tokens, over rows and channels of y. Rounding errors are no changes."""
    y = y.transpose(1, 2).flatten(0, 1)
    most = 0
    for column in y:
        clear = column[column.abs() > 1e-4 * column.abs().max()].sign()
        most = max(most, int((clear[1:] != clear[:-1]).sum()))
    return most


def outputs_on_equal_tokens(name: str, options: dict[str, Any], seed: int) -> tuple[Tensor, int]:
    """Outputs of random weights for rows of one repeated token, and the number of entries of the state."""
    torch.manual_seed(seed)
    mixer = blank(name, **options)
    for parameter in mixer.parameters():
        parameter.normal_()
    if name in ("mlstm", "rwkv7"):  # what passes by the state
        (mixer.skip if name == "mlstm" else mixer.bonus).zero_()
    entries = sum(leaf.numel() for leaf in leaves(mixer.initial_state(1)))
    return mixer(torch.randn(8, 1, 4).expand(-1, LENGTH, -1)), entries


def leaves(state: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_state(found.append, state)
    return found


@pytest.mark.parametrize("name", POSITIVE)
def test_positive_eigenvalues_cannot_compute_parity_whatever_the_weights(name: str) -> None:
    for seed in range(3):
        y, entries = outputs_on_equal_tokens(name, POSITIVE[name], seed)
        assert turns(y) <= entries


@pytest.mark.parametrize("name", NEGATIVE)
def test_real_eigenvalues_cannot_count_modulo_3_whatever_the_weights(name: str) -> None:
    for seed in range(3):
        y, entries = outputs_on_equal_tokens(name, NEGATIVE[name], seed)
        assert max(turns(y[:, ::2]), turns(y[:, 1::2])) <= entries


def test_parity_and_modulo_3_turn_on_equal_tokens() -> None:
    """So the two bounds above are ones that a solution breaks."""
    every = torch.ones(LENGTH, dtype=torch.long)
    every[0] = 0
    for name in ("mamba", "deltanet", "gated_deltanet"):
        assert turns(signs(name)(counting_tokens(every))[..., :1]) == LENGTH - 1
    y = counter("gru", 3)(counting_tokens(every))[..., :1]
    assert min(turns(y[:, ::2]), turns(y[:, 1::2])) > LENGTH // 4


def test_flips_of_rwkv7_leave_less_than_half() -> None:
    """Eigenvalues are real, at least 0.545 - 1: a flip shrinks the state to 0.455, so parity fades in 100 marks."""
    torch.manual_seed(0)
    mixer, seen = blank("rwkv7", 8, n_heads=1, rank=2), []
    mixer.recur = lambda recurrence, _: (seen.append(recurrence), (recurrence.v, None))[1]
    for _ in range(20):
        for parameter in mixer.parameters():
            parameter.normal_(std=5)
        mixer(torch.randn(1, 500, 8))
    r = [torch.cat([getattr(one, part).flatten(0, 2) for one in seen]) for part in ("log_decay", "write", "read")]
    decay, write, read = (part.double() for part in r)
    found = torch.linalg.eigvals(torch.diag_embed(decay.exp()) + write.unsqueeze(-1) * read.unsqueeze(-2))
    assert float(found.imag.abs().max()) < 1e-5
    least = float(found.real.min())
    assert math.exp(-math.exp(-0.5)) - 1 - 1e-5 <= least < -0.3
    assert float(found.real.max()) <= 1 + 1e-5


@pytest.mark.parametrize("name", ["lru", "s5", "retnet", "linear_attention"])
def test_without_decays_from_the_token_the_state_is_a_sum_over_marks(name: str) -> None:
    """So no mark can flip what another wrote, whatever the weights."""
    torch.manual_seed(0)
    mixer = blank(name, **({"n_heads": 1} if name in ("retnet", "linear_attention") else {})).double()
    for parameter in mixer.parameters():
        parameter.normal_()
    x = torch.randn(1, 2, 4).double()

    def state(*marks: int) -> Tensor:
        tokens = x[:, :1].repeat(1, 1_000, 1)
        tokens[:, list(marks)] = x[:, 1:]
        return leaves(mixer.extend(tokens, mixer.initial_state(1))[1])[0]

    alone = [state(*marks) - state() for marks in ((100,), (700,), (998,))]
    torch.testing.assert_close(state(100, 700, 998) - state(), alone[0] + alone[1] + alone[2])


# Modulo 3 by linear recurrences


def test_two_reflections_count_marks_of_two_tokens_modulo_3() -> None:
    mixer, token = delta_rotation()
    marks = MARKS[: LENGTH // 2]
    pairs = torch.where(marks.bool()[:, None], torch.tensor([0, 1]), torch.tensor([3, 3]))
    pairs[0] = torch.tensor([START, 3])
    y = mixer(token[pairs.flatten()].unsqueeze(0))[0, 1::2]
    cos, sin = y[:, 0], y[:, 2]
    count = torch.where(cos > 0, 0, torch.where(sin > 0, 1, 2))
    assert torch.equal(count, marks.cumsum(0) % 3)


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_complex_eigenvalues_of_lru_count_tokens_modulo_any_number(period: int) -> None:
    """An impulse turns with its period. Period 1 is retention by a decay of 1, period 2 alternation by -1."""
    mixer = blank("lru", 1, d_state=1)
    mixer.nu_log.fill_(-40)
    mixer.theta_log.fill_(math.log(2 * math.pi / period))
    mixer.B[0, 0], mixer.C[0, 0, 0] = 1, 1
    assert float((turned(mixer) - wave(period)).abs().max()) < 5e-3


@pytest.mark.parametrize("period", [1, 3, 7])
def test_complex_eigenvalues_of_s5_count_tokens_modulo_any_number(period: int) -> None:
    """B undoes what zero-order hold makes of it, (a - 1) / L."""
    mixer, dt = blank("s5", 1, d_state=2), 1e-3
    L = torch.tensor(complex(-1e-4, 2 * math.pi / period / dt if period > 1 else 0), dtype=torch.complex128)
    mixer.log_dt.fill_(math.log(dt))
    mixer.L[:] = torch.view_as_real(L)
    mixer.B[0, :, 0] = torch.view_as_real(L / torch.expm1(L * dt))
    mixer.C[0, 0, 0] = 1
    assert float((turned(mixer) - wave(period)).abs().max()) < 0.02


def turned(mixer: Any) -> Tensor:
    """What a mixer with complex states reads after an impulse, (LENGTH,)."""
    x = torch.zeros(1, LENGTH, 1, dtype=mixer.D.dtype)
    x[0, 0] = 1
    return mixer.read(diagonal_recurrence(*mixer.enter(x)), x)[0, :, 0]  # type: ignore[no-any-return]


def wave(period: int) -> Tensor:
    return torch.cos(2 * math.pi * (torch.arange(LENGTH) % period) / period)


# Delay


@pytest.mark.parametrize("delay", [0, 1, 2, 3])
def test_the_convolution_of_mamba_delays_within_its_filter(delay: int) -> None:
    mixer = blank("mamba", d_conv=4, expand=1)
    block = mixer.block
    block.in_proj.weight[:4] = torch.eye(4)
    block.in_proj.weight[4:, 0] = block.D[:] = 1
    block.conv1d.weight[:, 0, 3 - delay] = 1
    block.out_proj.weight.copy_(torch.eye(4))
    y = mixer(counting_tokens(MARKS))[0, :, 1]
    assert torch.equal((y > 0.1)[delay:], MARKS[: LENGTH - delay].bool())


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_the_filter_of_convformer_delays_within_its_window(delay: int) -> None:
    mixer = blank("convformer", window=6)
    mixer.weight[:, 5 - delay] = 1
    x = torch.randn(1, LENGTH, 4)
    assert torch.equal(mixer(x)[:, delay:], x[:, : LENGTH - delay])


def test_a_gru_delays_by_its_width() -> None:
    """Each unit takes what the one before had."""
    mixer = blank("gru", hidden=8)
    mixer.rnn.bias_ih_l0[:8], mixer.rnn.bias_ih_l0[8:16] = 50, -50
    mixer.rnn.weight_ih_l0[16, :2] = torch.tensor([-50.0, 100.0])
    mixer.rnn.weight_hh_l0[17:, :7] = 50 * torch.eye(7)
    mixer.out_proj.weight[0, 7] = 1
    y = mixer(counting_tokens(MARKS))[0, 7:, 0]
    assert torch.equal(y > 0, MARKS[:-7].bool())


@pytest.mark.parametrize(("name", "options", "seen"), [
    ("mamba", {"d_conv": 4}, 4), ("mamba", {"d_conv": 2}, 2), ("convformer", {"window": 6}, 6),
    ("gloma", {"window": 6}, 6), ("rglru", {"d_conv": 3}, 3),
    ("mamba", {"d_conv": 4, "recurrence": True}, None),
])  # fmt: skip
def test_without_its_recurrence_nothing_passes_the_filter_whatever_the_weights(
    name: str, options: dict[str, Any], seen: int | None
) -> None:
    """A changed token changes the next ``seen`` outputs and no other; with the recurrence on, also a later one."""
    torch.manual_seed(0)
    on = options.pop("recurrence", False)
    mixer = blank(name, **options)
    for parameter in mixer.parameters():
        parameter.normal_()
    if name == "mamba" and not on:
        mixer.block.x_proj.weight.zero_()  # B and C
    elif name == "rglru":
        mixer.decay.fill_(100)  # a = 0
        mixer.gates_bias.fill_(100)
    x = torch.randn(1, LENGTH, 4)
    other, place = x.clone(), 5_000
    other[0, place] += 1
    run = mixer.local if name == "gloma" else mixer
    changed = (run(x) != run(other))[0].any(-1).nonzero().flatten() - place
    if seen is None:
        assert int(changed.max()) >= 4
    else:
        assert changed.tolist() == list(range(seen))


# Retention


@pytest.mark.parametrize("name", ["gla", "mingru", "rglru", "mamba", "deltanet", "gated_deltanet"])
def test_a_decay_of_one_keeps_the_first_token(name: str) -> None:
    y = keeper(name)(counting_tokens(torch.zeros(LENGTH)))[0, :, 0]
    assert float(y[1].abs()) > 0.1
    torch.testing.assert_close(y[-1], y[1], rtol=1e-5, atol=0)


FORGET = (
    "mamba", "mamba2", "gla", "hgrn2", "retnet", "mlstm", "slstm", "deltanet", "gated_deltanet", "rwkv7", "gru", "lstm",
    "mingru", "rglru", "s5",
)  # fmt: skip


@pytest.mark.parametrize("name", FORGET)
def test_a_fresh_layer_forgets_the_first_token(name: str) -> None:
    """Whoever wants to remember for 10,000 tokens has to learn it."""
    torch.manual_seed(0)
    cls: Any = BACKBONES.get(name)
    mixer = cls(make_options(cls, {}), Spec(16, n_layers=1))
    mixer.initialise(1.0)
    x = torch.randn(1, LENGTH, 16)
    changes = []
    for length in (1, LENGTH):
        other = x[:, -length:].clone()
        other[0, 0] *= -1
        a, b = (mixer.forward_at(part, LAST) for part in (x[:, -length:], other))
        changes.append(float((a - b).norm() / a.norm()))
    assert changes[1] < 1e-5 < 0.1 < changes[0]


def test_a_sum_keeps_the_first_token_among_ten_thousand() -> None:
    """Linear attention averages: the first token counts 1/10,000, not 0."""
    torch.manual_seed(0)
    mixer = blank("linear_attention", n_heads=1)
    _, _, v = mixer.qkv_proj.weight.chunk(3)
    v.copy_(torch.eye(4))
    mixer.out_proj.weight.copy_(torch.eye(4))
    y = mixer(counting_tokens(MARKS))[0, -1, START]
    assert float(y) == pytest.approx(1 / LENGTH, rel=1e-3)


# Content addressing: (1, four keys, value 0, value 1, four queries, 0)


def recall_tokens(again: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (1, LENGTH, 12), positions of queries and the answers. Keys are written once, or ``again`` and again."""
    generator = torch.Generator().manual_seed(0)
    x, known, places, answers = torch.zeros(1, LENGTH, 12), torch.zeros(4, dtype=torch.long), [], []
    x[..., 0] = 1
    for t in range(LENGTH):
        key, bit, kind = (int(torch.randint(n, (), generator=generator)) for n in (4, 2, 8))
        key, bit = (t, (1, 0, 0, 1)[t]) if t < 4 else (key, bit)
        if t < 4 or (again and kind == 0):
            known[key] = bit
            x[0, t, 1 + key] = x[0, t, 5 + bit] = 1
        elif t > LENGTH - 200 or (again and kind < 3):
            x[0, t, 7 + key] = 1
            places.append(t)
            answers.append(int(known[key]))
    return x, torch.tensor(places), torch.tensor(answers)


def recaller(name: str) -> Any:
    """Keys, queries and values as they stand in the tokens; output 5 is value 0, output 6 value 1."""
    d = 12
    if name == "mamba":
        mixer = blank(name, d, d_state=4, d_conv=1, expand=1, dt_rank=1)
        layer = block = mixer.block
        block.in_proj.weight[:d] = torch.eye(d)
        block.in_proj.weight[d:, 0] = 1
        block.conv1d.weight.fill_(1)
        block.x_proj.weight[0, 5:7] = 1  # a value is written
        block.x_proj.weight[1:5, 1:5] = block.x_proj.weight[5:9, 7:11] = torch.eye(4)
        block.dt_proj.weight.fill_(400)
        block.dt_proj.bias.fill_(-100)
        block.A_log.fill_(-30)  # decays of 1, also of a written token
    else:
        layer = mixer = blank(name, d, n_heads=1, **({} if name != "deltanet" else {"d_conv": 1}))
        q, k, v = mixer.qkv_proj.weight.chunk(3)
        q[1:5, 7:11] = k[1:5, 1:5] = 100 * torch.eye(4)
        v[5:7, 5:7] = 100 * torch.eye(2)
        if name == "deltanet":
            mixer.rate_proj.weight[0, 0], mixer.rate_proj.weight[0, 1:5] = -100, 200
            mixer.conv.conv.weight.fill_(1)
            mixer.norm.weight.fill_(1)
    layer.out_proj.weight.copy_(torch.eye(d))
    return mixer


@pytest.mark.parametrize(("name", "again"), [
    ("deltanet", True), ("deltanet", False), ("mamba", False), ("linear_attention", False), ("transformer", False),
])  # fmt: skip
def test_values_are_found_by_their_keys(name: str, again: bool) -> None:
    """Keys that were written again ask for the latest value, which only the delta rule replaces."""
    x, places, answers = recall_tokens(again)
    mixer = recaller(name)
    keep = slice(-200, None) if name == "transformer" else ALL
    y = mixer.forward_at(x, keep)[0]
    at = places - (LENGTH - len(y))
    assert len(answers) > 150
    assert torch.equal((y[at, 6] > y[at, 5]).long(), answers)
