"""The bundle's ``__main__.py``, behind the text of ``check.py``."""

import os
import sys

if __name__ == "__main__":
    # The import system names modules after this path: relative, it would be looked for elsewhere
    # once somebody changes the folder.
    sys.path[0] = os.path.abspath(sys.path[0])

    from remedies.cli import main

    sys.exit(main())
