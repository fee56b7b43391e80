"""Print every installed distribution with its licence as CSV. ``make sbom`` writes that to a file."""

import csv
import sys
from importlib.metadata import Distribution, distributions


def licence(found: Distribution) -> str:
    """The SPDX expression, else the trove classifiers, else the first line of the free text, else ``unknown``."""
    about = found.metadata
    classified = [
        text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or () if text.startswith("License ::")
    ]
    free = (about.get("License") or "").strip().splitlines()
    return about.get("License-Expression") or "; ".join(classified) or (free[0] if free else "unknown")


def rows() -> list[tuple[str, str, str]]:
    """Every distribution of this environment, by name."""
    return sorted({(found.name, found.version, licence(found)) for found in distributions()})


if __name__ == "__main__":
    csv.writer(sys.stdout, lineterminator="\n").writerows([("name", "version", "licence"), *rows()])
