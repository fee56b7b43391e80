"""Connecting to Ray, and what its nodes have. What goes wrong is one line, within bounds."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from backbench.errors import UserError, require

PATIENCE = 5.0  # seconds for a connection
HEALTH = 20.0  # seconds for an answer of Ray, imports included: ray.init alone waits for minutes
STORE = 100 * 2**20  # bytes of a local Ray's object store, which nothing uses
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def connect(address: str, cpus: int, options: Mapping[str, str]) -> None:
    """Connect this process to the Ray at ``address``, or to a new one on this machine with so many CPUs, and check
    that a node of it has what a cell needs. A process that is connected stays so.

    UserError: Ray is absent, does not answer, or has no such node.
    """
    needed = needs(options)
    require(find_spec("ray") is not None, "Ray is not installed; install it with: pip install 'backbench[ray]'")
    if address:
        _answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if not ray.is_initialized():
        local = {"num_cpus": cpus, "object_store_memory": STORE, "include_dashboard": False}
        try:
            quiet = {"log_to_driver": False, "logging_level": "ERROR"}
            ray.init(address=address or "local", **quiet, **({} if address else local))
        except Exception as error:  # of many types: other versions, a machine that is no node
            said = " ".join(str(error).split())[:300]
            raise UserError(f"--address {address}: Ray says: {said}" if address else f"Ray says: {said}") from error
    _fits(needed, ray.nodes())


def needs(options: Mapping[str, str]) -> dict[str, Any]:
    """What a task of Ray asks for, from ``gpus`` (2, 0.25 or TYPE:1) and ``mem`` (512M or 4G). UserError: neither."""
    memory, given = options.get("mem", ""), options.get("gpus", "")
    kind, _, gpus = given.rpartition(":")
    number = re.fullmatch(r"\d+(\.\d+)?", gpus) is not None
    require(not given or number, f"--gpus {given}: give 1, 0.5 or A100:1")
    found = re.fullmatch(r"(\d+)([KMGT]?)", memory)
    require(not memory or found is not None, f"--mem {memory}: give a number with K, M, G or T, such as 4G")
    asked: dict[str, Any] = {"num_cpus": 1}
    if gpus:
        asked["num_gpus"] = float(gpus)
    if kind:
        asked["accelerator_type"] = kind
    if found is not None:
        asked["memory"] = int(found[1]) * UNITS[found[2] or "M"]
    return asked


def _answers(address: str) -> None:
    """UserError unless a Ray answers; ``ray.init`` would wait for minutes, and then end this process."""
    host, _, port = address.rpartition(":")
    well = bool(host) and "/" not in host and port.isdecimal() and 0 < int(port) < 65536
    require(well, f"--address {address}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--address {address} does not answer: {reason}; give that of a running head") from None
    words = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        well = subprocess.run(words, capture_output=True, timeout=HEALTH).returncode == 0
    except subprocess.TimeoutExpired:
        well = False
    require(well, f"--address {address}: no Ray answers there within {HEALTH:.0f} s; give the address of its head")


def _fits(needed: Mapping[str, Any], nodes: list[dict[str, Any]]) -> None:
    """UserError unless one node has everything that a cell needs: Ray would wait for ever."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    wanted = {names.get(name, f"accelerator_type:{value}"): value for name, value in needed.items()}
    wanted = {name: 0.001 if name.startswith("accelerator") else value for name, value in wanted.items()}
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(all(have.get(name, 0) >= value for name, value in wanted.items()) for have in alive):
        most = {name: max((have.get(name, 0) for have in alive), default=0) for name in wanted}
        said = [f"{_shown(name, value)} (most on a node: {_shown(name, most[name])})" for name, value in wanted.items()]
        raise UserError(f"no node of the Ray cluster has what a cell needs: {', '.join(said)}; give less")


def _shown(name: str, value: float) -> str:
    return f"{value / 2**30:.3g}G memory" if name == "memory" else f"{value:g} {name}"
