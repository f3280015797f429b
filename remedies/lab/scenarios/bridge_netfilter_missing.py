"""A container cannot use a service whose backend is its neighbour on the same bridge.

NAT sends requests for the service's address on to the backend. The backend answers its neighbour by
the bridge, and conntrack does not see what is bridged: the answer keeps the backend's address, and
the client has not asked that one.

In the healthy twin conntrack sees what is bridged.
"""

from __future__ import annotations

from remedies.lab import datagram, required
from remedies.lab.firewall import Firewall
from remedies.lab.story import Story
from remedies.lab.topology import addresses, container_host
from remedies.lab.world import TrafficOutcome, World

CONDITION = "bridge-netfilter-missing"
VERDICT = "proven"
HEALTHY = "absent"
FIXES = ("bridge-netfilter",)

SERVICE = {4: "10.96.0.10", 6: "fd10:96::a"}
BACKEND = {4: "172.17.0.3", 6: "fd17:172::3"}
KEYS = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}

look = datagram.look


def build(world: World) -> None:
    """Plug the backend into the client's bridge and publish it (healthy: let conntrack see)."""
    family = world.options.family
    container_host(world)
    flag = "nodad" if family == 6 else ""
    world.ip(
        "host",
        f"link add veth1 type veth peer name eth1 netns {world.namespace('server')}",
        "link set veth1 master docker0",
    )
    world.ip("server", f"addr add {BACKEND[family]}/{addresses(world).inner} dev eth1 {flag}")
    world.await_links(server=["eth1"], host=["veth1"])
    Firewall(world).publish(SERVICE[family], datagram.PORT, BACKEND[family])
    world.sysctl("host", KEYS[family], "1" if world.options.healthy else "0")
    world.start("server", ["remedies.lab.udp_server", BACKEND[family], str(datagram.PORT)])


def traffic(world: World) -> TrafficOutcome:
    """Ask the service from the container."""
    service = SERVICE[world.options.family]
    return datagram.keep_asking(world, "client", addresses(world).family, service, datagram.PORT)


def story(story: Story) -> None:
    """Show the fault, its fix, and the way back."""
    before = story.dump()
    story.dies("A container asks a service on its own bridge")
    story.scan("The cause")
    policy = required.fixing(story.world, CONDITION, FIXES[0])
    story.heals(
        FIXES[0],
        before=before,
        again="The same question",
        back="Without the fix it dies again",
        policy=("--policy", policy),
    )
