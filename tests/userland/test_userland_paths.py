"""Every fix on every Debian's userland, from fault to fault: proven, fixed, kept, rolled back.

The host tool is the bundle, run by that Debian's own Python with its libnftables, nft and
iptables, on a container host with NAT that the same tools wrote, beside rules as others write
them. What is not ours is equal throughout, and everything, files too, is equal at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import theirs
from boot_files import boot, checked
from userland_world import Userland

from remedies.lab import ruleset
from remedies.lab.datagram import ask
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.topology import addresses, container_host

Make = Callable[..., Userland]
Traffic = Sequence[Callable[[Userland], bool]]

PORT = 56789
FORMS = [
    pytest.param("nft", 4, "nftables", id="nft"),
    pytest.param("iptables-nft", 6, "iptables", id="iptables-nft"),
    pytest.param("iptables-legacy", 4, "iptables", id="iptables-legacy"),
]
POLICY = """\
apiVersion: remedy/v1
name: userland
extends: default
backend: {backend}
persist: true
rules:
  tcp-invalid-reset:
    {{mode: fix, from: exposed, fixes: [invalid-drop], accept_harm: [invalid-drop]}}
  udp-reply-source: {{mode: fix, from: proven, fixes: [udp-redirect]}}
require:
  - fix: notrack
    params: {{protocol: udp, ports: [5060], addresses: ["{uplink}"]}}
    reason: SIP
"""
LIBERAL = """\
apiVersion: remedy/v1
name: liberal
extends: default
persist: true
rules:
  tcp-invalid-reset: {mode: fix, from: exposed, fixes: [tcp-be-liberal]}
"""
ATTEMPTS = 5
PROVEN = {"tcp-invalid-reset": "proven", "udp-reply-source": "proven"}
GONE = {"tcp-invalid-reset": "mitigated", "udp-reply-source": "mitigated"}


def tcp(world: Userland) -> bool:
    """Tell whether a transfer with a stray segment lives."""
    return tcp_invalid_reset.traffic(world).alive


def published(world: Userland) -> bool:
    """Tell whether one from outside to the container's server does: its segments are forwarded."""
    above = tcp_invalid_reset.ABOVE
    return tcp_invalid_reset.transfer(world, above, published=True).alive


def udp(world: Userland) -> bool:
    """Tell whether a new client is answered."""
    at = addresses(world)
    return ask(world, "client", at.family, at.uplink, PORT).alive


def verdicts(world: Userland, traffic: Traffic, *words: str) -> dict[str, str]:
    """Scan while the traffic goes on; return verdict by condition."""
    found = world.json(
        "scan", "--window", "300ms", *words, code=None, beside=lambda: lives(world, traffic)
    )
    return {f["condition"]: f["verdict"] for f in found["findings"]}


def fires(world: Userland, traffic: Traffic, proven: dict[str, str], *words: str) -> None:
    """Scan until all are proven: on a busy machine a window may go by without a whole attempt."""
    for _ in range(ATTEMPTS):
        found = verdicts(world, traffic, *words)
        if found == proven:
            return
    raise AssertionError(found)


def lives(world: Userland, traffic: Traffic) -> list[bool]:
    """Try each kind of traffic once."""
    return [kind(world) for kind in traffic]


def everything(world: Userland) -> ruleset.Dump:
    """Return rules and sysctls as the userland's own tools print them, and the files of /etc."""
    return {**ruleset.dump(world), **world.files()}


@pytest.mark.parametrize(("nat", "family", "backend"), FORMS)
def test_from_fault_to_fault(userland: Make, nat: str, family: int, backend: str) -> None:
    with userland(nat, family) as world:
        container_host(world)
        theirs.load(world)
        theirs.publish_tcp(world, tcp_invalid_reset.PORT)
        everywhere = "0.0.0.0" if family == 4 else "::"
        world.start("host", ["remedies.lab.udp_server", everywhere, str(PORT)])
        policy = world.policy(POLICY.format(backend=backend, uplink=addresses(world).uplink))
        fixes = {"invalid-drop", "notrack", "udp-redirect"}
        whole_path(world, (tcp, published, udp), policy, fixes, PROVEN, GONE)


def test_tcp_be_liberal(userland: Make) -> None:
    with userland("nft", 6) as world:
        container_host(world)
        proven = {"tcp-invalid-reset": "proven"}
        whole_path(
            world,
            (tcp,),
            world.policy(LIBERAL),
            {"tcp-be-liberal"},
            proven,
            {"tcp-invalid-reset": "mitigated"},
        )


def whole_path(
    world: Userland,
    traffic: Traffic,
    policy: str,
    fixes: set[str],
    proven: dict[str, str],
    after: dict[str, str],
) -> None:
    """Go the whole way with the fixes that a policy wants."""
    options = ("--policy", policy)
    before = everything(world)
    assert not any(lives(world, traffic))
    fires(world, traffic, proven, *options)
    plan = world.json("plan", *options, "--window", "0")
    assert {change["fix"] for change in plan["changes"]} == fixes
    assert ruleset.difference(before, everything(world)) == ""

    applied = world.json("apply", "--yes", *options, "--window", "0")
    assert applied["outcome"] == "applied"
    assert applied["changes"] == plan["changes"]
    assert {v["after"] for v in applied["verified"]} <= {"mitigated", "absent"}
    assert all(lives(world, traffic))
    assert verdicts(world, traffic, *options) == after

    in_force = everything(world)
    again = world.json("apply", "--yes", *options, "--window", "0")
    assert (again["outcome"], again["changes"]) == ("nothing", [])
    assert ruleset.difference(in_force, everything(world)) == ""
    status = world.json("status")
    assert {e["resource"] for e in status["in_force"]} == {c["resource"] for c in plan["changes"]}
    assert {e["state"] for e in status["in_force"]} == {"ours"}
    assert all(entry["ours"] for entry in status["boot"])

    checked(world)
    boot(world)
    assert ruleset.difference(unordered(in_force), unordered(everything(world))) == ""
    assert {e["state"] for e in world.json("status")["in_force"]} == {"ours"}

    assert world.json("rollback", "--yes")["outcome"] == "rolled-back"
    assert ruleset.difference(before, everything(world)) == ""
    assert not any(lives(world, traffic))
    fires(world, traffic, proven, *options)
    assert world.json("status")["in_force"] == []


def unordered(found: ruleset.Dump) -> ruleset.Dump:
    """Return a dump with sorted lines: chains and tables that are loaded anew come last in lists.

    Whether rules stand in their order is for ``status`` to say.
    """
    return {source: "\n".join(sorted(text.splitlines())) for source, text in found.items()}
