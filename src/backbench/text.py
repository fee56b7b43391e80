"""Text from users and files, made safe for where it is shown. Every view uses these functions and no others."""


def plain(text: str) -> str:
    """``text`` on one line, without characters that a terminal obeys instead of showing them."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def markdown(text: str) -> str:
    """``text`` as Markdown that shows it as it is, also in a table's cell."""
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return "".join("\\" + letter if letter in "\\`*_[]|#" else letter for letter in text)


def count(number: int, what: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
