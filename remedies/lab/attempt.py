"""One attempt of a standing world's traffic: ``python -m remedies.lab.attempt WORLD``.

Prints what came of it; exits 0 when the connection lived and 1 when it died.
"""

from __future__ import annotations

import sys

from remedies.errors import RemedyError
from remedies.lab import registry, scenarios
from remedies.lab.world import World


def main(world_id: str) -> int:
    """Run the traffic of the world with this id once."""
    try:
        marker = registry.find(world_id)
        outcome = scenarios.load(marker.scenario).traffic(World.standing(marker))
    except RemedyError as error:
        print(f"remedy: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{'lives' if outcome.alive else 'dies'}: {outcome.detail}")
    return 0 if outcome.alive else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
