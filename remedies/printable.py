"""How text from a host and addresses are shown, in every output."""

from __future__ import annotations


def clean(text: str) -> str:
    r"""Return ``text`` with control characters spelled out (``\x1b``); newline and tab stay.

    Bidirectional overrides and other invisible format characters are spelled out too: a process
    name must not be able to rewrite the line it stands in.
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_spelled(character) for character in text)


def for_plugin(text: str) -> str:
    """Return text as a monitoring plugin's line takes it: a ``|`` would begin its figures."""
    return " ".join(text.replace("|", "/").split())


def at(address: str, port: object) -> str:
    """Return address and port as people and programs write them: IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def end(address: str, port: int) -> str:
    """Return an end of a packet's way: without a port where its protocol has none (0)."""
    return at(address, port) if port else address


def both_ends(source: str, source_port: int, destination: str, destination_port: int) -> str:
    """Return both ends of a flow, or of a packet's way, for people."""
    return f"{at(source, source_port)} -> {at(destination, destination_port)}"


def _spelled(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
