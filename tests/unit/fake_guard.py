"""A guard that notes what it is told, and a journal on a disk that fills up."""

from __future__ import annotations

import errno
import os
from typing import Any, Optional

from remedies.model import Change
from remedies.transaction.journal import Journal
from remedies.transaction.ledger import Begin, Pending
from remedies.transaction.record import Record


class Full(Journal):
    """A journal that has room for a few records more; what fails after them fails differently."""

    room = 1000

    def __enter__(self) -> Full:
        return self

    def append(self, kind: str, txn: str, data: Optional[dict[str, object]] = None) -> Record:
        if self.room <= 0:
            self.room -= 1
            number = errno.ENOSPC if self.room == -1 else errno.EIO
            raise OSError(number, os.strerror(number))
        self.room -= 1
        return super().append(kind, txn, data)


class Watching:
    """What stands for a guard and for arming it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lives = False

    def __call__(self, _txn: str, _begin: Begin) -> Any:
        return self

    def begun(self) -> None:
        pass

    def waits(self, _pending: Pending) -> None:
        self.told.append("waits")

    def goes_on(self) -> bool:
        return self.lives

    def dismiss(self) -> None:
        self.told.append("dismiss")

    def for_boot(self, _changes: tuple[Change, ...]) -> None:
        self.told.append("boot")
