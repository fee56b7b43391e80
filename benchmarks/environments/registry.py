"""The kinds of environments by name. A new kind is one module and one line here."""

from backbench.benchmarks.environments.kind import EnvironmentKind
from backbench.registry import Registry

MODULES = {
    "vector": "backbench.benchmarks.environments.vector:VECTOR",
    "atari": "backbench.benchmarks.environments.atari.kind:ATARI",
}
KINDS: Registry[EnvironmentKind] = Registry("kind of environment", MODULES, bases=(EnvironmentKind,))


def kind_of(pixels: bool) -> EnvironmentKind:
    """The kind of a task or suite, which stores whether its states are ``pixels``."""
    return KINDS.get("atari" if pixels else "vector")
