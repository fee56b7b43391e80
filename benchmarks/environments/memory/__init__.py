"""Small tasks that need memory, as Gymnasium environments: ``gymnasium.make("backbench/TMaze-v0", length=24)``.

Importing ``backbench.environments`` registers them. docs/memory.md describes each one.
"""

from typing import Any

NAMESPACE = "backbench"
# Id -> class in ``tasks``, and its fixed arguments.
IDS: dict[str, tuple[str, dict[str, int]]] = {
    "TMaze-v0": ("TMaze", {}),
    "Repeat-v0": ("Repeat", {}),
    "Copy-v0": ("Copy", {}),
    "Recall-v0": ("Recall", {}),
    "Parity-v0": ("Counter", {"modulus": 2}),
    "Count-v0": ("Counter", {"modulus": 4}),
}
# First word of a task's name -> id, and the argument that the second one is: tmaze-24 is TMaze-v0 with length=24.
NAMES = {
    "tmaze": ("TMaze-v0", "length"), "repeat": ("Repeat-v0", "lag"), "copy": ("Copy-v0", "symbols"),
    "recall": ("Recall-v0", "pairs"), "parity": ("Parity-v0", "length"), "count": ("Count-v0", "length"),
}  # fmt: skip
SEEN = "seen"  # last word of the name of a task whose hidden variable is in the observation


def named(task: str) -> tuple[str, dict[str, Any]]:
    """The environment's id and arguments of a task such as ``tmaze-24`` or ``copy-12-seen``. Raises ``KeyError``."""
    family, size, *rest = [*task.split("-"), ""]
    if family not in NAMES or not size.isdecimal() or len(size) > 6 or rest[:-1] not in ([], [SEEN]):
        raise KeyError(task)
    name, argument = NAMES[family]
    return f"{NAMESPACE}/{name}", {argument: int(size), **({SEEN: True} if rest[:-1] else {})}


def register() -> None:
    """Register the environments that Gymnasium does not know yet. It imports no task."""
    from gymnasium.envs import registration

    for name, (task, fixed) in IDS.items():
        if (id_ := f"{NAMESPACE}/{name}") not in registration.registry:
            # No checkers: they cost more than a step.
            registration.register(id_, f"{__name__}.tasks:{task}", kwargs=fixed, disable_env_checker=True)
