"""BibTeX of the papers that backbones and suites name."""

import re
from pathlib import Path

from backbench import reading

BACKBENCH = """@misc{backbench,
  title = {Backbench: a benchmark of sequence backbones for offline reinforcement learning},
  author = {{The Backbench authors}},
  year = {2026},
  note = {Version VERSION},
}"""
_ENTRY = re.compile(r"^@\w+\{.*?^\}", re.MULTILINE | re.DOTALL)
_ID = re.compile(r"^  (?:eprint|doi) = \{(.*)\},$", re.MULTILINE)
_NAMED = re.compile(r"arXiv:(\d{4}\.\d{4,5})|doi:(10\.[^\s;,()]+)")


def entries() -> dict[str, str]:
    """arXiv number or DOI -> BibTeX entry, of ``references.bib``."""
    text = reading.text(Path(__file__).parent / "references.bib")
    return {match[1]: entry for entry in _ENTRY.findall(text) if (match := _ID.search(entry))}


def cited(text: str) -> list[str]:
    """The entries of the papers that ``text`` names as ``arXiv:…`` or ``doi:…``. One that ``references.bib`` lacks has
    its number alone."""
    known, found = entries(), []
    for arxiv, doi in _NAMED.findall(text):
        bare = f"  eprint = {{{arxiv}}},\n  archivePrefix = {{arXiv}}," if arxiv else f"  doi = {{{doi}}},"
        key = re.sub(r"\W", "-", arxiv or doi)
        found.append(known.get(arxiv or doi, f"@misc{{{key},\n{bare}\n}}"))
    return found
