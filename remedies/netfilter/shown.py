"""A rule as the tool that owns it prints it, from what the kernel gave: to be found, and deleted.

Where a part of a rule is not known word for word, the text is the decoded match, and what finds
the rule stands behind it: ``# handle 7`` as ``nft -a`` prints it, or its number in a legacy chain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter import legacy, xt_text
from remedies.netfilter import sets as xt_sets
from remedies.netlink.nft import constant, expressions, handle_of
from remedies.rules import render
from remedies.rules.decoded import Step
from remedies.values import replace

_OF_HEADER = (
    "fragments",
    "source mask",
    "destination mask",
    "bits of source",
    "bits of destination",
)
"""What is not modelled of the part that every rule has: addresses, interfaces, protocol."""
_FLAGS_AT = 13  # of the TCP header: RFC 9293
_FRAGMENT_AT = (6, 2)  # of the IPv4 header: RFC 791
_HEADERS = (4, 5, 6, 7, 15, 16)  # NFT_META_IIF, OIF, IIFNAME, OIFNAME, NFPROTO, L4PROTO


def by_nft(step: Step, printed: Callable[[], Mapping[int, str]]) -> str:
    """Return a rule of an nft table with its handle, as ``nft -a`` prints it.

    ``printed`` asks nft for the rules by handle; where it does not say, the text is the decoded
    match.
    """
    asked = step.comment.isprintable() and not _is_one_word(step.raw)
    text = printed().get(_handle(step.raw), "") if asked else ""
    if not text:
        text = render.nft(step) + (f' comment "{step.comment}"' if step.comment else "")
    return text + _found_by(step.raw)


def _is_one_word(raw: bytes) -> bool:
    """Tell whether a rule says ``masquerade`` or ``notrack`` and nothing else: no need to ask."""
    try:
        said = list(expressions(raw))
    except (Unreadable, KeyError):
        return False
    return said in ([("masq", {})], [("notrack", {})])


def by_iptables_nft(family: str, chain: str, step: Step) -> str:
    """Return a rule of iptables-nft as iptables-save prints it; else with its handle."""
    step = _written(step)
    try:
        words = _native(family, step)
    except (Unreadable, struct.error, KeyError, IndexError, ValueError):
        words = None
    line = _line(chain, step, words)
    return render.iptables(chain, step) + _found_by(step.raw) if line is None else line


def by_iptables_legacy(family: str, chain: str, step: Step, number: int) -> str:
    """Return a legacy rule as iptables-save prints it; else with its ``number`` in the chain."""
    step = _written(step)
    words: xt_text.Words = []
    told = iter(step.sets)
    for kind, name, revision, info in legacy.extensions(family, step.raw):
        said = _extension(kind, name, revision, info, family, told)
        words = None if words is None or said is None else words + said
    line = _line(chain, step, words)
    if line is not None:
        return line
    return f"{render.iptables(chain, step)}  # rule {number} of {chain}"


def _written(step: Step) -> Step:
    """Return the rule without what the entries of its sets add."""
    return step if step.written is None else replace(step, match=step.written)


def _line(chain: str, step: Step, words: xt_text.Words) -> Optional[str]:
    match = step.match
    header = any(name in _OF_HEADER or name.startswith("!") for name in match.unmodelled)
    if words is None or header or len(match.protocols) > 1:
        return None
    parts = ["-A", chain, *render.header(match), *words]
    if "-j" in words:
        pass
    elif step.verdict in ("jump", "goto"):
        parts += ["-j" if step.verdict == "jump" else "-g", step.chain]
    elif step.verdict:
        parts += ["-j", step.verdict.upper()]
    return " ".join(parts)


def _handle(raw: bytes) -> int:
    try:
        return handle_of(raw)
    except Unreadable:
        return 0


def _found_by(raw: bytes) -> str:
    handle = _handle(raw)
    return f" # handle {handle}" if handle else ""


def _number(got: Mapping[int, bytes], key: int) -> int:
    return int.from_bytes(got[key], "big")


def _native(family: str, step: Step) -> xt_text.Words:
    """Return the words of iptables-nft's own expressions and of the extensions between them."""
    words: list[str] = []
    loaded: tuple[object, ...] = ()
    mask = b""
    told = iter(step.sets)
    for name, got in expressions(step.raw):
        if name == "match" or name == "target":
            extension = got[1].rstrip(b"\0").decode(errors="replace")
            info = got.get(3, b"")
            said = _extension(name, extension, _number(got, 2), info, family, told)
            if said is None:
                return None
            words += said
        elif name == "meta" and 1 in got:
            loaded, mask = ("meta", _number(got, 2)), b""
        elif name == "payload" and 1 in got:
            loaded, mask = ("payload", *(_number(got, key) for key in (2, 3, 4))), b""
        elif name == "bitwise" and 4 in got:
            mask = constant(got[4])
        elif name in ("cmp", "range"):
            said = _compared(name, got, loaded, mask, step)
            if said is None:
                return None
            if words and said[:2] == [
                "-m",
                step.match.protocols[0] if step.match.protocols else "",
            ]:
                said = said[2:] if words[_last(words) :][:2] == said[:2] else said
            words += said
        elif name == "limit":
            words += _limit(got)
        elif name not in ("counter", "immediate"):
            return None
    return words


def _last(words: list[str]) -> int:
    """Return where the last match in these words begins."""
    return max((at for at, word in enumerate(words) if word == "-m"), default=0)


def _extension(
    kind: str, name: str, revision: int, info: bytes, family: str, sets: Iterator[str]
) -> xt_text.Words:
    if name == "iprange":  # it narrows the addresses that the header is told from
        return None
    if name == "set" and kind == "match":
        more = xt_sets.set_match(revision, info).more
        said = next(sets, "")
        return said.split() if said and not more else None
    form = xt_text.match if kind == "match" else xt_text.target
    return form(name, revision, info, family)


def _compared(
    name: str, got: Mapping[int, bytes], loaded: tuple[object, ...], mask: bytes, step: Step
) -> xt_text.Words:
    """Return what a comparison says; nothing for those of the header, which the match has."""
    if loaded[:1] == ("meta",) and loaded[1] in _HEADERS:
        return []
    operator = _number(got, 2)
    negate = ["!"] if operator == 1 else []
    if loaded[:2] == ("payload", 1) and loaded[2:] != _FRAGMENT_AT:
        return []
    if loaded[:2] == ("payload", 1):
        plain = name == "cmp" and mask == b"\x1f\xff" and operator in (0, 1)
        return (["-f"] if operator == 1 else ["!", "-f"]) if plain else None
    if operator not in (0, 1) or len(step.match.protocols) > 1:
        return None
    if loaded == ("meta", 3) and name == "cmp":  # NFT_META_MARK, in this machine's order
        (value,) = struct.unpack("=I", constant(got[3]))
        bits = struct.unpack("=I", mask)[0] if mask else 0xFFFFFFFF
        return ["-m", "mark", *negate, "--mark", xt_text.mark(value, bits)]
    if loaded[:2] != ("payload", 2) or len(step.match.protocols) != 1:
        return None
    start = ["-m", step.match.protocols[0]]
    if loaded[2] in (0, 2) and loaded[3] == 2 and not mask:
        low = int.from_bytes(constant(got[3]), "big")
        high = int.from_bytes(constant(got[4]), "big") if name == "range" else low
        flag = "--sport" if loaded[2] == 0 else "--dport"
        return [*start, *negate, flag, str(low) if low == high else f"{low}:{high}"]
    if loaded[2:] == (_FLAGS_AT, 1) and name == "cmp" and start[1] == "tcp":
        bits, value = mask[0] if mask else 0xFF, constant(got[3])[0]
        return [*start, *negate, "--tcp-flags", xt_text.flags(bits), xt_text.flags(value)]
    return None


def _limit(got: Mapping[int, bytes]) -> list[str]:
    """Return nf_tables' limit as xt_limit's words: a rate for each unit of seconds."""
    rate, unit, burst = _number(got, 1), _number(got, 2), _number(got, 3)
    if _number(got, 4) or got.get(5, bytes(4)).strip(b"\0"):
        raise ValueError("bytes, or over a rate")
    average = 10_000 * unit // rate
    said = xt_text.match("limit", 0, struct.pack("=2I", average, burst), "ip")
    if said is None:
        raise ValueError(rate)
    return said
