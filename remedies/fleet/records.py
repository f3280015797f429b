"""The records of a run's hosts: what each said of itself last, kept on the controller.

``records/`` in a run's folder holds one report in the ``json`` format a host. The head of the
host's journal is in it, and so is out of the host's reach from then on: a journal that was cut or
made anew later no longer holds it.
"""

from __future__ import annotations

import os
import shutil
import urllib.parse
from collections.abc import Mapping
from typing import Any, Optional

from remedies import codec
from remedies.errors import InputError
from remedies.fleet.host_state import HostStanding
from remedies.fleet.plans import write_new
from remedies.fleet.rundir import Run
from remedies.report.import_host import SIZE_LIMIT, admit
from remedies.report.record import HostReport, Rollout, Unreached
from remedies.values import replace

SINCE = "2d"
"""How far back a host looks when a run asks for its record, by its own clock."""


def folder(run: Run) -> str:
    """Return the folder of a run's records."""
    return os.path.join(run.folder, "records")


def keep(place: str, host: str, plain: Mapping[str, Any]) -> HostReport:
    """Write a host's record and return it. Raises OSError; InputError where it is none."""
    text = codec.dumps(plain)
    record = admit(text, host, f"record of {host}")
    os.makedirs(place, mode=0o700, exist_ok=True)
    write_new(_path(place, host), f"{text}\n".encode())
    return record


def copy(run: Run, other: Run) -> None:
    """Take the records of a run over into another one: they are newer. Raises OSError."""
    if os.path.isdir(folder(run)):
        shutil.copytree(folder(run), folder(other), dirs_exist_ok=True)


def summary(record: HostReport) -> dict[str, object]:
    """Return what a host's word says of its record: its findings, and what could not be judged."""
    return {
        "findings": [
            [j.condition, j.subject, j.verdict]
            for j in record.judgements
            if j.verdict not in ("absent", "off", "unknown")
        ],
        "unknown": [j.condition for j in record.judgements if j.outcome == "unknown"],
    }


def read(place: str, host: str) -> Optional[HostReport]:
    """Return what a host said last; None where nothing was kept of it. Raises InputError."""
    path = _path(place, host)
    try:
        with open(path, encoding="utf-8") as file:
            return admit(file.read(SIZE_LIMIT + 1), host, path)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", "leave it as it was written") from None


def head(run: Run, host: str) -> str:
    """Return the head of a host's journal as the run has kept it. Raises InputError."""
    if host not in run.asked.hosts:
        raise InputError(f"{run.id}: {host} is not in that run", "see its run.json")
    record = read(folder(run), host)
    if record is None or record.chain is None:
        raise InputError(f"{run.id}: no journal head of {host} was kept", "name another run")
    return record.chain.head


def heads(run: Run) -> dict[str, str]:
    """Return the head of every host whose record the run has kept. Raises InputError."""
    found = {host: read(folder(run), host) for host in run.asked.hosts}
    return {host: each.chain.head for host, each in found.items() if each and each.chain}


def gathered(
    place: str, standings: Mapping[str, HostStanding], *, rollout: bool
) -> tuple[tuple[HostReport, ...], tuple[Unreached, ...]]:
    """Return what the hosts said, and those that said nothing with the reason.

    Of a ``rollout`` a host's record holds what it did in it, and how it came out.
    """
    told, missing = [], []
    for host, standing in standings.items():
        try:
            record = read(place, host)
        except InputError as error:
            record, standing = None, replace(standing, message=str(error))
        if record is None:
            missing.append(Unreached(host, standing.message or _silence(standing)))
        else:
            told.append(_of_rollout(record, standing) if rollout else record)
    return tuple(told), tuple(missing)


def _silence(standing: HostStanding) -> str:
    reason = standing.details.get("no_record")
    if reason:
        return str(reason)
    return "it gave no record" if standing.time else "not started: the run ended before its turn"


def _of_rollout(record: HostReport, standing: HostStanding) -> HostReport:
    """Return a record with the transactions of the rollout alone, and how the host came out."""
    several = standing.details.get("transactions")
    ours = {standing.transaction or "", *(several if isinstance(several, list) else ())} - {""}
    deeds = tuple(d for d in record.deeds if ours & {d.id, *d.undoes})
    return replace(
        record,
        deeds=deeds,
        series=tuple(s for s in record.series if s.transaction in ours),
        rollout=Rollout(
            state=standing.state,
            exit=standing.rc,
            time=standing.time,
            transaction=standing.transaction or "",
            message=standing.message,
        ),
    )


def _path(place: str, host: str) -> str:
    return os.path.join(place, f"{urllib.parse.quote(host, safe='')}.json")
