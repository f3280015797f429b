"""UDP answers that were refused, and datagrams that this host refuses: what the kernel knows.

The judgement itself is :func:`remedies.facts.pairs.mirrored`, by which ``scan`` judges, too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from remedies.facts.pairs import Proof, here, mirrored
from remedies.facts.process import Process
from remedies.netlink.flow import Flow, Tuple
from remedies.tap.lookups import Questions
from remedies.trace.behind import Behind
from remedies.trace.nat_rules import NatRules
from remedies.trace.requests_heard import RequestsHeard
from remedies.trace.socket_owners import Holders


class RefusedAnswers:
    """Looks in conntrack, among sockets, in the NAT rules, and at what was heard."""

    def __init__(self, questions: Questions, holders: Holders) -> None:
        """Ask nothing yet."""
        self._questions, self._holders = questions, holders
        self.heard = RequestsHeard()
        self.rules = NatRules()

    def proof(self, way: Tuple, local: Collection[str]) -> Optional[Proof]:
        """Return the pair of a refused datagram ``way`` of ours and the request it answers.

        By conntrack where it knows the request, else by the packets that were heard. None: the
        client has asked nothing that this could answer, or it was not heard.
        """
        answer = Flow("udp", way, way.reversed, seen_reply=False, nat=False)
        client = way.destination, way.destination_port
        one = self._questions.other_request(way, local)
        for requests in (
            () if one is None else (one,),
            () if one is not None else self._questions.requests_of(*client),
            self.heard.requests_of(*client),
        ):
            proof = next(mirrored((*requests, answer), local), None)
            if proof is not None:
                return proof
        self.heard.listen(way)
        return None

    def behind(self, way: Tuple, local: Collection[str]) -> Optional[Behind]:
        """Return who sent a refused datagram ``way`` through NAT here; None: this host itself."""
        flow = self._questions.flow("udp", way.reversed)
        if flow is None or here(flow.original.source, local):
            return None
        sender = flow.original
        for request in self._questions.requests_of(way.destination, way.destination_port):
            asked = request.reply
            other = asked.source != sender.source and not here(asked.source, local)
            if request.nat and other and asked.source_port == sender.source_port:
                return Behind(sender, request)
        return Behind(sender, None)

    def sender(self, way: Tuple, proof: Optional[Proof]) -> tuple[Optional[Process], bool]:
        """Return whose socket a refused datagram ``way`` came from, as far as one is left.

        That of its port, else of the port that was asked, else a TCP listener of that number.
        And whether the socket that it came from is connected to the client: then it no longer
        hears what the client sends to the address it asked.
        """
        client = way.destination, way.destination_port
        found, connected = self._holders.of((way.source, way.source_port), client)
        if found is None and proof is not None:
            found, _ = self._holders.of((proof.asked, proof.port), client)
            found = found or self._holders.listener((proof.asked, proof.port))
        return found, connected and proof is not None and not proof.apart

    def close(self) -> None:
        """Stop hearing; safe to repeat."""
        self.heard.close()
