"""What a watch knows of one namespace, filled as pulses are taken and scans end."""

from __future__ import annotations

from remedies.namespaces.find import Namespace
from remedies.status.in_force import InForce
from remedies.values import dataclass
from remedies.watch.baseline import WatchPlace
from remedies.watch.events import Seen
from remedies.watch.pulse import Pulse


@dataclass
class Track:
    """What is known of one namespace; ``number`` is its name in the crew."""

    number: int
    namespace: Namespace
    place: WatchPlace
    pulse: Pulse
    seen: Seen
    due: float
    """Monotonic time of the next scan without a cause."""
    cause: str
    """Why it is to be scanned; empty: it is not."""
    scanning: str = ""
    """Why it is being scanned."""
    scanned: bool = False
    listens: bool = False
    """The scan that runs listens for long, and gives way to one with a cause."""
    listen_until: float = 0.0
    heard: str = ""
    """The counters that moved last."""
    awaited: bool = True
    """Nothing is said of the whole before it was scanned."""
    failed: bool = False
    """Its last scan had no result."""
    begun: float = 0.0
    in_force: tuple[InForce, ...] = ()

    @property
    def settled(self) -> bool:
        """Tell whether it was judged since something last moved in it."""
        waits = self.cause or (self.scanning and not self.listens)
        return self.scanned and not self.failed and not waits
