"""Text from a host made fit to be shown: control characters spelled out, in every output."""

from __future__ import annotations


def clean(text: str) -> str:
    r"""Return ``text`` with control characters spelled out (``\x1b``); newline and tab stay.

    Bidirectional overrides and other invisible format characters are spelled out too: a process
    name must not be able to rewrite the line it stands in.
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def _spelled(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
