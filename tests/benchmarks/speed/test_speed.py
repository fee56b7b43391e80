"""``bench speed``: what it counts is right, what is wrong is not timed, and what it writes can be read again."""

from __future__ import annotations

import gc
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbench.agents.acting import make_actor
from backbench.backbones.build import build
from backbench.backbones.contract import Mixer, Spec
from backbench.backbones.kernels import Implementation, ScanInputs, selective_scan
from backbench.backbones.kernels.scan.selective_scan import SELECTIVE_SCAN
from backbench.benchmarks.plan.settings import ModelConfig, TrainConfig
from backbench.benchmarks.speed import peers, tables
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.equality import Examiner, Unequal, make, operation_inputs, values_and_gradients
from backbench.benchmarks.speed.models import WholeWindowActor, subject, warm_actor, windows
from backbench.benchmarks.speed.parts import kernels
from backbench.benchmarks.speed.parts.memory import peak_memory
from backbench.benchmarks.speed.parts.training import batch_of, training_step
from backbench.benchmarks.speed.report import FILE, KernelEntry, Report, read, write
from backbench.benchmarks.speed.run import measure, speed
from backbench.benchmarks.speed.timing import LEAST, interleave
from backbench.errors import UserError

CPU = torch.device("cpu")
TINY = ModelConfig(d_model=16, n_layers=1, dropout=0.1, context=4)
TINY_WORDS = ("--d-model", 16, "--n-layers", 1, "--context", 4, "--batch-size", 4, "--repeats", 3, "--budget", 1)


def tiny(*backbones: str, **changes: Any) -> SpeedConfig:
    """Settings that take about a second."""
    settings = SpeedConfig(backbones, model=TINY, batch_size=4, lengths=(6, 12), repeats=3, budget=0.5)
    return replace(settings, **changes)


# What is counted and done


@pytest.mark.parametrize(
    ("name", "options", "mixing"),
    [
        ("transformer", {"n_heads": 2}, 0),
        ("mamba", {}, 9 * 16),
        ("mamba", {"mlp": False, "d_state": 8}, 9 * 8),
        ("gloma", {}, (9 + 13) * 16),
        ("gloma", {"fusion": "concat"}, (9 + 13) * 16),
        ("gloma", {"fusion": "gated", "window_of": "scan", "local_d_state": 4}, 9 * 16 + 13 * 4),
        ("gloma", {"local": "blocks"}, 2 * 9 * 16),
        ("mlp", {}, 0),
        ("identity", {}, 0),
    ],
)
def test_flops_are_those_of_the_products_and_the_scan(
    name: str, options: dict[str, Any], mixing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch counts the matrix products as they run; convolution and scan, left out here, come to ``mixing``.

    That is, FLOPs of the scans for each channel and token, besides 2 a tap.
    """
    for function in ("selective_scan", "causal_conv1d"):
        monkeypatch.setattr(f"backbench.backbones.mixers.mamba.{function}", lambda x, *rest, **named: x)
    length, d = 24, 32
    kernels = {} if name in ("mlp", "identity") else {"kernels": "reference"}
    model = build(name, options | kernels, Spec(d_model=d, n_layers=2, max_length=length)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(2, length, d))
    counted = counter.get_total_flops() / (2 * length)
    if name == "transformer":  # the reference multiplies with the future too, and then drops it
        counted -= 2 * 4 * d * (length - (length + 1) / 2)
    blocks = {"mamba": 1, "gloma": 2}.get(name, 0)
    elsewhere = 2 * (2 * d) * (mixing + blocks * 2 * 4)
    assert model.flops(length) == pytest.approx(counted + elsewhere, rel=1e-9)


def test_a_step_is_the_training_loops(tiny_cell: Callable[..., Any], tmp_path: Path) -> None:
    """The same updates as ``train``'s, bit for bit."""
    from backbench.benchmarks.run.train import train

    config = tiny("mamba")
    batch = windows(4, TINY.context, CPU)

    class Sampler:
        def batch(self, number: int) -> Any:
            return batch

    cell = tiny_cell("mamba", model=TINY, train=replace(config.train, steps=3, warmup=0))
    agents = [make(subject("mamba", config), config, TINY.context, CPU) for _ in range(2)]
    torch.manual_seed(5)
    train(cell, agents[0], Sampler(), CPU, tmp_path, None, lambda _: None, lambda: False)  # type: ignore[arg-type]
    torch.manual_seed(5)
    step = training_step(agents[1], batch, config, CPU)
    for _ in range(3):
        step()
    assert all(torch.equal(a, b) for a, b in zip(*(agent.parameters() for agent in agents), strict=True))


def test_every_length_has_as_many_tokens() -> None:
    config = SpeedConfig(("mamba",))
    assert [batch_of(length, config) for length in (60, 21, 258, 1026, 9999)] == [64, 183, 15, 4, 1]
    assert config.train == TrainConfig(batch_size=64)


def test_runs_are_interleaved_and_the_first_is_dropped() -> None:
    order: list[str] = []

    def sampler(name: str, seconds: float) -> Callable[[], list[float]]:
        def sample() -> list[float]:
            order.append(name)
            assert gc.isenabled() == (len(order) <= 2)  # the warm-up is no timed run
            time.sleep(seconds)
            return [seconds, float(len(order))]

        return sample

    taken = interleave({"slow": sampler("slow", 0.05), "fast": sampler("fast", 0.0)}, 6, seconds=0.2)
    assert order[:6] == ["slow", "fast", "slow", "fast", "fast", "slow"]
    assert gc.isenabled()
    assert len(taken["slow"]) == 2 * LEAST  # its half of the time was used up; each round gave two numbers
    assert len(taken["fast"]) == 2 * 6
    assert min(taken["slow"][1::2]) > 2


@pytest.mark.parametrize("name", ["mamba", "transformer"])
def test_a_warm_actor_has_a_full_window_and_its_backbone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it decides next is what an actor decides that worked for its window, given that it did the same."""
    config = tiny(name)
    agent: Any = make(subject(name, config), config, TINY.context, CPU).eval()
    monkeypatch.setattr(agent.head, "act", lambda output, _: torch.zeros_like(output))
    states = torch.randn(2, OBSERVATION)
    for acting in ("window", "recurrent"):
        warm: Any = warm_actor(agent, acting, states, TINY.context)
        assert warm.time == TINY.context
        plain = make_actor(agent, acting, torch.zeros(2), TINY.context)
        for _ in range(TINY.context):
            plain.act(states)
            plain.update(torch.zeros(2))
        decided: list[Tensor] = []

        def act(output: Tensor, _: object, to: list[Tensor] = decided) -> Tensor:
            to.append(output)
            return torch.zeros_like(output)

        monkeypatch.setattr(agent.head, "act", act)
        for actor in (warm, plain):
            actor.act(states)
        assert decided[0].abs().max() > 0
        torch.testing.assert_close(decided[0], decided[1])


def test_memory_is_that_of_the_step() -> None:
    """In a process of its own; what is kept for the backward pass alone is some ten tensors a layer."""
    config = SpeedConfig(("mlp",), model=ModelConfig(d_model=64, n_layers=2, context=20), batch_size=128)
    tensor = 128 * 60 * 64 * 4 / 1e6  # of batch, length and width, in megabytes
    assert 2 * 5 * tensor < peak_memory("mlp", config, CPU).megabytes < 2 * 60 * tensor


# What is wrong is not timed


@pytest.fixture
def wrong_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """An implementation that ``auto`` takes, and whose gradient of B is off by a thousandth."""

    def wrong(inputs: ScanInputs) -> Tensor:
        B = inputs.B
        return SELECTIVE_SCAN.table["torch"].function(inputs._replace(B=B + 1e-3 * (B - B.detach())))

    monkeypatch.setattr(SELECTIVE_SCAN, "table", dict(SELECTIVE_SCAN.table))
    monkeypatch.setattr(SELECTIVE_SCAN, "_found", {})
    SELECTIVE_SCAN.add(Implementation("wrong", wrong))


def test_a_wrong_kernel_is_refused(wrong_scan: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever runs it has no number, the others have; the exit status says so."""
    config = tiny("transformer", "mamba", parts=("training", "kernels"))
    assert speed(config, "cpu", tmp_path) == 1
    report = read(tmp_path)
    assert [one.subject for one in report.training] == ["transformer"]
    subjects = {one.name: one for one in report.subjects}
    assert subjects["transformer"].refused is None
    assert "selective_scan wrong" in str(subjects["mamba"].refused)
    assert "gradient of B off by 1.0e-03" in str(subjects["mamba"].refused)
    timed = {one.implementation: one for one in report.kernels if one.operation == "selective_scan" and not one.window}
    assert timed["wrong"].refused
    assert timed["wrong"].seconds == ()
    assert timed["torch"].refused is None
    assert timed["torch"].seconds
    assert report.scan_lengths == ()  # it would have been the wrong one's
    printed = capsys.readouterr().out
    assert "refused: mamba:" in printed
    assert "refused: selective_scan wrong" in printed


def test_kernels_in_bfloat16_have_more_room() -> None:
    """And are compared in that type; the whole is not, as rounding it layer after layer would hide what is wrong."""
    _, checks = Examiner(tiny("transformer", bf16=True), CPU).subject(subject("transformer", tiny("transformer")))
    found = {check.partition(" ")[0]: float(check.rpartition(" ")[2]) for check in checks}
    assert 1e-4 < found["attention"] < 1e-2
    assert found["the"] < 1e-5


class SlowToForget(Mixer):
    """Its step is not its forward pass."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.weight = nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight(x)  # type: ignore[no-any-return]

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.weight(x_t) * 1.001, state


class Broken(Mixer):
    """Fails when it is trained."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of order")


def test_a_backbone_that_acts_otherwise_or_fails_is_refused() -> None:
    names = [f"{__name__}:SlowToForget", f"{__name__}:Broken", "identity"]
    report = measure(tiny(*names, parts=("training",)), CPU)
    reasons = {one.name.partition(":")[2]: one.refused for one in report.subjects}
    assert "acting recurrent off by" in str(reasons["SlowToForget"])
    assert reasons["Broken"] == "raised RuntimeError: out of order"
    assert [one.subject for one in report.training] == ["identity"]


def test_peers_equal_ours_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("transformer", peers=True, options={"d_state": 4, "activation": "gelu"})
    here, _ = peers.peers(config, CPU)
    examiner = Examiner(config, CPU)
    assert {"DecisionTransformerModel", "mambapy"} <= {one.name for one in here}
    for one in here:
        _, checks = examiner.subject(one)
        assert any(f"{one.name} = " in check for check in checks)
    forward, loss = peers.MambapyMixer.forward, peers.DecisionTransformer.loss
    monkeypatch.setattr(peers.MambapyMixer, "forward", lambda self, x: 1.001 * forward(self, x))
    monkeypatch.setattr(peers.DecisionTransformer, "loss", lambda self, batch: 1.001 * loss(self, batch))
    for one in here:
        with pytest.raises(Unequal, match=r"off by \d"):
            examiner.subject(one)


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    here, missing = peers.peers(tiny("mamba"), CPU)
    assert here == []
    assert {one.name: one.reason for one in missing}["mambapy"] == "not installed: pip install mambapy==1.2.0"


@pytest.mark.parametrize("name", kernels.PEERS)
def test_peers_scans_are_the_scan(name: str) -> None:
    inputs, _ = operation_inputs("selective_scan", (2, 13, 6, 4), CPU)
    ours = values_and_gradients(selective_scan, inputs)
    for a, b in zip(values_and_gradients(kernels.PEERS[name].function, inputs), ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_whole_window_actor_decides_as_the_agents_own() -> None:
    config = tiny("gloma")
    agent: Any = make(subject("gloma", config), config, TINY.context, CPU).eval()
    targets, g = torch.tensor([5000.0, 100.0]), torch.Generator().manual_seed(0)
    actors = make_actor(agent, "window", targets, 4), WholeWindowActor(agent, targets, 4)
    for _ in range(7):
        states, rewards = torch.randn(2, OBSERVATION, generator=g), torch.randn(2, generator=g)
        one, other = (actor.act(states) for actor in actors)
        torch.testing.assert_close(one, other)
        for actor in actors:
            actor.update(rewards)


# What is written and printed


@pytest.fixture(scope="module")
def report() -> Report:
    """All parts but the memory of three backbones, tiny."""
    parts = ("training", "lengths", "latency", "acting", "kernels")
    return measure(tiny("transformer", "mamba", "gloma", parts=parts), CPU)


def test_everything_was_measured(report: Report) -> None:
    names = {"transformer", "mamba", "gloma"}
    assert report.refused == []
    assert {one.subject for one in report.training} == names
    assert {(one.length, one.batch) for one in report.lengths} == {(6, 8), (12, 4)}
    assert {(one.acting, one.batch) for one in report.latency} == {
        (a, b) for a in ("window", "recurrent") for b in (1, 16, 64)
    }
    assert {(one.acting, one.length) for one in report.latency_lengths} == {
        (a, n) for a in ("window", "recurrent") for n in (6, 12)
    }
    assert {(one.subject, one.acting) for one in report.acting} == {
        (n, a) for n in names for a in ("window", "recurrent", "alone")
    }
    assert {one.shape[1] for one in report.scan_lengths} == set(kernels.LENGTHS)
    assert {one.window for one in report.kernels if one.operation == "selective_scan"} == {None, 3, 6}


def test_it_reads_back_and_prints_in_a_hundred_columns(report: Report, tmp_path: Path) -> None:
    """With the longest of names, and with numbers as they are at full size."""
    text = report.model_dump_json()
    for name, other in (("transformer", "DecisionTransformerModel"), ("mamba", "transformer")):
        text = text.replace(f'"{name}"', f'"{other}"')
    slow = (0.532e1, 5.49, 5.76)
    wide = Report.model_validate_json(text).model_copy(update={
        "training": tuple(one.model_copy(update={"length": 60, "batch": 64}) for one in report.training),
        "kernels": (*(one.model_copy(update={"seconds": slow}) for one in report.kernels), KernelEntry(
            operation="selective_scan", implementation="x", ours=True, shape=(64, 60, 256, 16), window=None,
            seconds=(), refused="values off by 1",
        )),
        "subjects": tuple(one.model_copy(update={"parameters": 12_345_678}) for one in report.subjects),
    })  # fmt: skip
    wide = Report.model_validate(wide.model_dump())
    write(wide, tmp_path)
    assert read(tmp_path / FILE) == wide
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(tables.to_rich(wide))
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 100
    for table in tables.tables(wide):
        for line in table.lines:
            assert len(line) == len(table.columns)
            assert [cell for cell in line if cell not in printed] == []  # nothing is cut off or folded
    markdown = tables.to_markdown(wide)
    assert markdown.count("### ") == len(tables.tables(wide))
    assert "| DecisionTransformerModel |" in markdown


def test_what_is_no_report_is_one_line(tmp_path: Path, report: Report) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "nothing.json")
    for number, text in enumerate(("{", "[]", json.dumps(report.model_dump(mode="json") | {"schema_version": 9}))):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(UserError, match="not a report of bench speed") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_episodes_have_steps_enough_to_be_timed(report: Report) -> None:
    for one in report.acting:
        assert one.environments == (1 if one.acting == "alone" else 10)
        assert one.steps >= 50 * one.environments
        assert min(one.cpu_seconds) > 1e-3  # a tenth of a simulator's step each, at least


# The command


def test_the_command(bench: Callable[..., Any], tmp_path: Path) -> None:
    words = ("speed", "--backbone", "gloma", "--lengths", "6,12", "--parts", "lengths", *TINY_WORDS)
    done = bench(*words, "--out", "here", "backbone.window=3", "backbone.local_d_conv=1", "--markdown")
    assert done.code == 0, done.err
    assert "### Training over the context" in done.out
    assert (tmp_path / "here" / "speed.png").stat().st_size > 10_000
    assert read(tmp_path / "here").config["options"] == {"window": 3, "local_d_conv": 1}
    again = bench("speed", "--from", "here", "--markdown")
    assert (again.code, again.out) == (0, done.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "20,many"], "--lengths 20,many: give whole numbers"),
        (["--lengths", "0"], "--lengths 0: give at least 1"),
        (["--parts", "trainig"], "unknown part 'trainig'; did you mean 'training'"),
        (["--out", "/proc/none"], "cannot write to /proc/none"),
        (["--from", "nowhere"], "cannot read nowhere"),
    ],
)
def test_a_mistake_is_one_line(bench: Callable[..., Any], words: list[str], message: str) -> None:
    done = bench("speed", *words)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_a_mistake_in_a_backbone_is_raised() -> None:
    with pytest.raises(UserError, match="unknown backbone 'mambo'; did you mean 'mamba'"):
        measure(tiny("mambo"), CPU)
    with pytest.raises(UserError, match="unknown option 'd_stat' of Mamba; did you mean 'd_state'"):
        measure(tiny("mamba", options={"d_stat": 3}), CPU)
    with pytest.raises(UserError, match="n_heads=3; change one of them"):
        measure(tiny("transformer", options={"n_heads": 3}), CPU)


def test_control_c_ends_it(tmp_path: Path) -> None:
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
