"""``python -m remedies``: the same as the command ``remedy``."""

import sys

from remedies.cli import main

sys.exit(main())
