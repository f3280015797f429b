"""nf_tables rules decoded from the kernel's expressions, iptables-nft's included.

The kernel runs a rule as a list of small expressions on registers (include/uapi/linux/netfilter/
nf_tables.h): load a header field, compare it, look it up in a set, end with a verdict. The decoder
follows the registers and narrows a Match by each comparison. A rule becomes several steps where a
set of tuples or a verdict map makes alternatives of it. Whatever it does not know narrows the
match as ``unmodelled``, by the expression's name.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from typing import Optional

from remedies.errors import Unreadable
from remedies.netfilter import maps, user_queues, xt
from remedies.netfilter.fields import (
    Field,
    apply,
    meta_field,
    option_field,
    payload_field,
    rt_field,
)
from remedies.netfilter.maps import Branch, Elements, OnlyAmong
from remedies.netfilter.nat_target import endpoint_of, in_slots, slot_in, slot_of
from remedies.netfilter.referred_to import NOT_READ, ReferredTo
from remedies.netlink import nft
from remedies.netlink.nft import HEADER, Element, comment_of, constant, expressions_in
from remedies.netlink.socket import attributes
from remedies.rules.decoded import ALTERNATIVES, Mark, MatchTerms, Step
from remedies.rules.packet_words import ASKED_PORT
from remedies.rules.rule import ONE_OF_ALL, Match

_VERDICTS = 2048
"""Steps that a map of verdicts may become; past that the rule is not read."""
_OBJECTS = {2: "quota", 4: "limit", 5: "connlimit", 10: "synproxy"}
"""Named objects that decide which packets go on (NFT_OBJECT_*, linux/netfilter/nf_tables.h)."""
_OBJECTS_SILENT = (1, 3, 6, 7, 8, 9)
"""Counter, helper, tunnel, time-out, secmark, expectation: each packet goes on."""
_SILENT = {"counter", "log", "dup", "last", "flow_offload"}
_LOADING = {"hash": 2, "osf": 1, "xfrm": 1, "tunnel": 2}
_DELETE = 2  # NFT_DYNSET_OP_DELETE: what is not in the set ends the rule
_MARK = 3  # NFT_META_MARK
_NAT = {"masq": "masquerade", "redir": "redirect"}
_ANY = Match()
_NUMBER = struct.Struct(">I")
_COMPUTED = Field("a computed value", 4)


def decode(
    body: bytes,
    family: str,
    elements: Elements,
    host: ReferredTo = NOT_READ,
    among: Optional[OnlyAmong] = None,
) -> tuple[Step, ...]:
    """Return the steps of one rule message; none for a rule that no packet can meet.

    Raises Unreadable where the message is malformed.
    """
    rule = _RuleState(body, family, elements, host, among)
    parts = dict(attributes(body, HEADER))
    rule.comment = comment_of(parts.get(7, b""))  # NFTA_RULE_USERDATA
    try:
        for name, got in expressions_in(parts):
            rule.execute(name, got)
        return rule.steps()
    except (struct.error, KeyError, ValueError, OverflowError, IndexError) as error:
        raise Unreadable(f"nf_tables: an expression is not as expected ({error!r})") from error


def _number(got: Mapping[int, bytes], key: int, default: Optional[int] = None) -> int:
    if key not in got and default is not None:
        return default
    return int(_NUMBER.unpack(got[key])[0])


class _RuleState:
    """The state of one rule while its expressions are followed."""

    def __init__(
        self,
        raw: bytes,
        family: str,
        elements: Elements,
        host: ReferredTo,
        among: Optional[OnlyAmong],
    ) -> None:
        self.raw = raw
        self.family = family
        self.elements = elements
        self.host = host
        self.among = among
        self.fields: dict[int, Field] = {}
        self.constants: dict[int, bytes] = {}
        self.turned: dict[int, Mark] = {}
        self.lots: dict[int, range] = {}
        self.mapped: dict[int, tuple[list[tuple[Field, int]], list[Element]]] = {}
        self.branches = [Branch(MatchTerms())]
        self.action = self.to = self.comment = ""
        self.mark: Optional[Mark] = None
        self.conntrack = False

    def execute(self, name: str, got: Mapping[int, bytes]) -> None:
        method = getattr(self, f"_do_{name}", None)
        if method is not None:
            method(got)
        elif name in _NAT:
            self.action, self.conntrack = _NAT[name], True
            self._translate(got, None, 1)
        elif name not in _SILENT:
            # One that loads a register is judged where the register is compared.
            if _LOADING.get(name) in got:
                self._load(_number(got, _LOADING[name]), Field(name, 4))
            else:
                self._unknown(name)

    def steps(self) -> tuple[Step, ...]:
        found: list[Step] = []
        for branch in self.branches:
            verdict = branch.verdict
            if self.action and self.action != "notrack":
                verdict = "accept"
            step = Step(
                match=_ANY,
                verdict=verdict,
                chain=branch.chain,
                action=self.action,
                to=branch.to or self.to,
                conntrack=self.conntrack,
                comment=self.comment,
                raw=self.raw,
                mark=self.mark,
            )
            found.extend(branch.terms.steps(step))
        return tuple(found)

    # what expressions load

    def _load(self, register: int, field: Field) -> None:
        slot = slot_of(register)
        self.fields[slot] = field
        for other in (self.constants, self.lots, self.mapped):
            other.pop(slot, None)

    def _do_meta(self, got: Mapping[int, bytes]) -> None:
        key = _number(got, 2)
        if 3 in got and key == _MARK:  # NFTA_META_SREG: it sets
            self.mark = self._marked(slot_of(_number(got, 3)))
        elif 1 in got:
            self._load(_number(got, 1), meta_field(key))

    def _do_rt(self, got: Mapping[int, bytes]) -> None:
        self._load(_number(got, 1), rt_field(_number(got, 2)))

    def _marked(self, slot: int) -> Optional[Mark]:
        """Return how a mark is set from a register; a ct key ends the rule where there is none."""
        order = sys.byteorder
        if slot in self.constants:
            return 0, int.from_bytes(self.constants[slot][:4], order)
        field = self.fields.get(slot, _COMPUTED)
        if field.name == "meta mark":
            return (int.from_bytes(field.mask, order), 0) if field.mask else self.mark
        if field.name.startswith("bits of meta mark"):
            return self.turned.get(slot, (0, None))
        return self.mark if "ct key" in field.name else (0, None)

    def _do_payload(self, got: Mapping[int, bytes]) -> None:
        if 1 in got:
            base, offset, length = _number(got, 2), _number(got, 3), _number(got, 4)
            known = self.branches[0].terms.match
            self._load(_number(got, 1), payload_field(self.family, known, base, offset, length))

    def _do_numgen(self, got: Mapping[int, bytes]) -> None:
        register, first = _number(got, 1), _number(got, 4, 0)
        self._load(register, Field("numgen", 4))
        self.lots[slot_of(register)] = range(first, first + _number(got, 2))

    def _do_ct(self, got: Mapping[int, bytes]) -> None:
        self.conntrack = True
        if 1 in got:
            key = _number(got, 2)
            name = "state" if key == 0 else f"ct key {key}"
            if got.get(3) == b"\0":  # NFTA_CT_DIRECTION: IP_CT_DIR_ORIGINAL
                name += " original"
            self._load(_number(got, 1), Field(name, 2 if name == ASKED_PORT else 4))

    def _do_fib(self, got: Mapping[int, bytes]) -> None:
        # NFT_FIB_RESULT_ADDRTYPE is 3; NFTA_FIB_F_SADDR is 1, NFTA_FIB_F_DADDR 2: whose type.
        side = {1: "saddr type", 2: "daddr type"}.get(_number(got, 3), "fib")
        self._load(_number(got, 1), Field(side if _number(got, 2) == 3 else "fib", 4))

    def _do_bitwise(self, got: Mapping[int, bytes]) -> None:
        field = self.fields.get(slot_of(_number(got, 1)))
        if field is None:
            return
        mask = constant(got[4]) if 4 in got else b""
        if field.name == "meta mark" and mask and not field.mask:
            kept, turned = (int.from_bytes(v, sys.byteorder) for v in (mask, constant(got[5])))
            self.turned[slot_of(_number(got, 2))] = kept, turned
        plain = mask and not any(constant(got[5]) if 5 in got else b"") and not field.mask
        self._load(
            _number(got, 2),
            field._replace(mask=mask) if plain else Field(f"bits of {field.name}", 4),
        )

    def _do_byteorder(self, got: Mapping[int, bytes]) -> None:
        field = self.fields.get(slot_of(_number(got, 1)))
        if field is not None:
            self._load(_number(got, 2), field._replace(turned=_number(got, 3) == 1))  # ..._HTON

    def _do_immediate(self, got: Mapping[int, bytes]) -> None:
        register = _number(got, 1)
        if register == 0:
            verdict, chain = nft.verdict_of(got[2])
            self._end(verdict, chain)
        else:
            self.fields.pop(slot_of(register), None)
            self.mapped.pop(slot_of(register), None)
            self.constants[slot_of(register)] = constant(got[2])

    # what expressions demand

    def _unknown(self, name: str) -> None:
        for branch in self.branches:
            branch.terms.unknown(name)

    def _demand(self, slot: int, low: bytes, high: bytes, *, negate: bool) -> None:
        field = self.fields.get(slot, _COMPUTED)
        for branch in self.branches:
            apply(branch.terms, field, self.family, [(low, high)], self.host, negate=negate)

    def _do_cmp(self, got: Mapping[int, bytes]) -> None:
        slot, operator, data = slot_of(_number(got, 1)), _number(got, 2), constant(got[3])
        if operator in (0, 1):  # eq, neq
            return self._demand(slot, data, data, negate=operator == 1)
        number, size = int.from_bytes(data, "big"), len(data)
        first, last = number + (operator == 4), (1 << 8 * size) - 1  # gt, gte
        if operator in (2, 3):  # lt, lte
            first, last = 0, number - (operator == 2)
        if first > last:
            return None
        low, high = first.to_bytes(size, "big"), last.to_bytes(size, "big")
        return self._demand(slot, low, high, negate=False)

    def _do_range(self, got: Mapping[int, bytes]) -> None:
        low, high = constant(got[3]), constant(got[4])
        self._demand(slot_of(_number(got, 1)), low, high, negate=_number(got, 2) == 1)

    def _do_match(self, got: Mapping[int, bytes]) -> None:
        name = got[1].rstrip(b"\0").decode(errors="replace")
        self.conntrack = self.conntrack or xt.tracks(name)
        family = self.family if self.family in ("ip", "ip6") else "ip"
        if name == "comment":
            self.comment = xt.comment(got.get(3, b""))
        for branch in self.branches:
            xt.narrow(branch.terms, name, _number(got, 2), got.get(3, b""), family, self.host)

    def _do_exthdr(self, got: Mapping[int, bytes]) -> None:
        if 1 not in got:  # it sets or takes away an option
            return self._unknown("exthdr")
        return self._load(_number(got, 1), option_field(got))

    def _do_objref(self, got: Mapping[int, bytes]) -> None:
        kind = _number(got, 1, 0)  # none where a map names the object
        if kind not in _OBJECTS_SILENT:
            self._unknown(_OBJECTS.get(kind, "object"))

    def _do_dynset(self, got: Mapping[int, bytes]) -> None:
        """Add to a set: who has room in it goes on, if it meets what is counted there."""
        nested = [got[7]] if 7 in got else [each for _, each in attributes(got.get(10, b""))]
        names = [nft.expression(each)[0] for each in nested]
        if _number(got, 3, 0) == _DELETE or _number(got, 9, 0):  # NFT_DYNSET_F_INV
            names.append("dynset")
        for name in sorted(set(names) - {"counter", "last"}):
            self._unknown(name)

    def _do_lookup(self, got: Mapping[int, bytes]) -> None:
        slot = slot_of(_number(got, 2))
        name = got[1].rstrip(b"\0").decode(errors="replace")
        mapped, inverted = 3 in got, _number(got, 5, 0) == 1
        verdicts = mapped and _number(got, 3) == 0
        try:
            read = self.among.elements if verdicts and self.among else self.elements
            found = read(name)
        except Unreadable as error:
            if verdicts:
                raise
            self._unknown(error.what)
            return
        fields = maps.key_fields(self.fields, slot, len(found[0].first)) if found else []
        if mapped and not verdicts:  # the value takes the place of the key, often the same register
            self._load(_number(got, 3), _COMPUTED)
            self.mapped[slot_of(_number(got, 3))] = fields, found
        if verdicts:
            if self.among and len(found) > _VERDICTS:
                found = self.among.concerned(fields, found, self.family, _VERDICTS)
            if slot in self.lots and maps.one_for_each(found, self.lots[slot]):
                fields = [(Field(ONE_OF_ALL, 4), 0)]
            self._alternatives(fields, found, verdicts=True)
        elif not found or any(item.others for item in found):  # no key is in it, or every one
            if bool(found) == inverted:
                for branch in self.branches:
                    branch.terms.match = None
        elif len(fields) > 1 and not inverted:
            self._alternatives(fields, found, verdicts=False, mapped=mapped)
        elif len(fields) > 1:
            self._all_but(fields, found, name)
        else:
            keys = [(item.first, item.last) for item in found]
            for branch in self.branches:
                apply(branch.terms, fields[0][0], self.family, keys, self.host, negate=inverted)

    def _alternatives(
        self,
        fields: list[tuple[Field, int]],
        found: list[Element],
        *,
        verdicts: bool,
        mapped: bool = False,
    ) -> None:
        if len(found) * len(self.branches) > (_VERDICTS if verdicts else ALTERNATIVES):
            if verdicts:
                raise Unreadable(f"a verdict map of {len(found)} elements")
            self._unknown(f"a set of {len(found)} tuples")
            return
        made = []
        for branch in self.branches:
            for item in found:
                terms = branch.terms.copy()
                maps.narrow_to(terms, fields, item, found, self.family, self.host)
                ends = nft.verdict_of(item.data) if verdicts else (branch.verdict, branch.chain)
                made.append(Branch(terms, *ends, item if mapped and not verdicts else None))
        self.branches = made

    def _all_but(self, fields: list[tuple[Field, int]], found: list[Element], name: str) -> None:
        each = [maps.all_but(b.terms, fields, found, self.family, self.host) for b in self.branches]
        if None in each:
            self._unknown(f"! set {name}")
            return
        ends = [(branch.verdict, branch.chain) for branch in self.branches]
        self.branches = [Branch(t, *end) for end, parts in zip(ends, each) for t in parts or ()]

    # what expressions do

    def _end(self, verdict: str, chain: Optional[str] = None) -> None:
        for branch in self.branches:
            branch.verdict = verdict
            branch.chain = branch.chain if chain is None else chain

    def _do_notrack(self, _: Mapping[int, bytes]) -> None:
        self.action = "notrack"

    def _do_reject(self, got: Mapping[int, bytes]) -> None:
        # NFTA_REJECT_TYPE is NFT_REJECT_TCP_RST (include/uapi/linux/netfilter/nf_tables.h)
        self._end("reset" if _number(got, 1, 0) == 1 else "reject")

    def _do_queue(self, got: Mapping[int, bytes]) -> None:
        self._end(user_queues.of_nft(got))

    def _do_nat(self, got: Mapping[int, bytes]) -> None:
        self.conntrack = True
        self.action = "dnat" if _number(got, 1) == 1 else "snat"
        self._translate(got, 3, 5)
        family = {2: "ip", 10: "ip6"}.get(_number(got, 2, 0), "")  # NFPROTO_*, of the address
        for branch in self.branches if family and self.family == "inet" else ():
            if branch.to or self.to:
                branch.terms.family(family)

    def _translate(self, got: Mapping[int, bytes], address: Optional[int], port: int) -> None:
        """Note where NAT sends to: what constants say, or a map, which makes alternatives of it."""
        into = {slot_in(got, key) for key in (address, port) if key} & self.mapped.keys()
        fields, found = self.mapped[min(into)] if len(into) == 1 else ([], [])
        if not found or len(found) * len(self.branches) > ALTERNATIVES:
            self.to = endpoint_of(got, self.constants, address, port)
            return
        made = []
        for branch in self.branches:
            for item in found if branch.item is None else [branch.item]:
                terms = branch.terms.copy()
                maps.narrow_to(terms, fields, item, found, self.family, self.host)
                held = {**self.constants, **in_slots(min(into), constant(item.data))}
                to = endpoint_of(got, held, address, port)
                made.append(Branch(terms, branch.verdict, branch.chain, to=to))
        self.branches = made

    def _do_target(self, got: Mapping[int, bytes]) -> None:
        name = got[1].rstrip(b"\0").decode(errors="replace")
        family = self.family if self.family in ("ip", "ip6") else "ip"
        verdict, action, to = xt.target(name, _number(got, 2), got.get(3, b""), family)
        self.mark = xt.marked(name, _number(got, 2), got.get(3, b"")) or self.mark
        self.conntrack = self.conntrack or xt.tracks(name)
        if action:
            self.action, self.to = action, to
        if verdict:
            self._end(verdict)
