"""How many events are told one by one: at most so many a second, proofs apart from the rest."""

from __future__ import annotations

PER_SECOND = 20


class Pace:
    """Two allowances that are full again each second. Pure: it is told the time."""

    def __init__(self, per_second: int = PER_SECOND) -> None:
        """Begin with both full."""
        self._most = per_second
        self._left = {True: per_second, False: per_second}
        self.untold = 0
        """Events refused since :meth:`renew`."""

    def allows(self, *, proof: bool) -> bool:
        """Tell whether one more may be told now; if not, count it."""
        if self._left[proof]:
            self._left[proof] -= 1
            return True
        self.untold += 1
        return False

    def renew(self) -> int:
        """Fill the allowances; return how many events were not told."""
        untold, self.untold = self.untold, 0
        self._left = {True: self._most, False: self._most}
        return untold
