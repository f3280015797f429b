"""Which drop-in files are read: of two with one name that of the first folder, in their order."""

from __future__ import annotations

import os
from collections.abc import Iterable


def chosen(folders: Iterable[str], root: str = "") -> list[str]:
    """Return the paths of the ``.conf`` files that systemd reads, in that order; raise OSError.

    A folder that is not there has none. Source: systemd's conf_files_list_strv() in
    src/basic/conf-files.c. ``root`` stands before every folder, and is not in the result.
    """
    by_name: dict[str, str] = {}
    for folder in folders:
        try:
            names = os.listdir(root + folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.endswith(".conf"):
                by_name.setdefault(name, f"{folder}/{name}")
    return [by_name[name] for name in sorted(by_name, key=os.fsencode)]
