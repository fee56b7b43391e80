"""Source ``minari``: sets of Minari's remote, and Farama's Atari sets converted to the protocol's frames."""

from collections.abc import Iterable, Sequence

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.source import Pull, Source
from backbench.errors import suggest


class Minari(Source):
    """Data sets that Minari downloads. Those under ``minari/`` are converted from sets that it has downloaded."""

    name = "minari"
    kind = "fetched"
    licence = "see its page"
    namespaces = ("minari", "mujoco", "D4RL", "atari", "minigrid", "babyai")
    any_id = True
    needs_sidecar = True

    def command(self, data_id: str) -> str:
        return f"bench data pull minari {_game(data_id) or data_id}"

    def remedy(self, data_id: str) -> str:
        if data_id.startswith("atari/"):  # of pixels, which Backbench leaves to Minari
            return f"get it again: minari delete {data_id}, then minari download {data_id}"
        return super().remedy(data_id)

    def check_pull(self, names: Sequence[str], how: Pull) -> None:
        super().check_pull(names, how)
        if how.location or how.keep:
            raise DataError("source 'minari' is Minari's own remote; set MINARI_REMOTE for another one")

    def resolve(self, name: str, how: Pull, known: Iterable[str]) -> str:
        if "/" not in name:
            raise DataError(f"source 'minari' has no data set, task or suite '{name}'{suggest(name, known)}")
        return name

    def reach(self, data_id: str) -> None:
        from backbench.benchmarks.data.sources.minari import hub

        if not _game(data_id):
            hub.reach(data_id)

    def fetch(self, data_id: str, how: Pull) -> None:
        """See ``Source.fetch``. A set that Minari itself has put into the store is checked and gets a sidecar."""
        from backbench.benchmarks.data.sources.minari import atari, hub

        if game := _game(data_id):
            atari.convert(game, how.report)
        else:
            hub.pull(data_id, how.report, how.force)


SOURCE = Minari()


def _game(data_id: str) -> str:
    """The game of a converted set. Empty for the others."""
    return data_id.split("/")[1] if data_id.startswith("minari/") else ""
