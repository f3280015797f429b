"""What can be done about it. One file per fix; the id is the file's name with dashes.

A fix is a module with ``TITLE``, ``ANSWERS`` (condition ids), ``RISK`` (low, moderate, high),
``HARMLESS`` (it ended nothing in any world of the harm matrix; for what is only exposed, such a fix
is tried before any other), ``NEEDS`` (fact types its guard asks for), ``TOPICS`` (what it
wants probes to read beyond their minimum), ``PARAMS`` (name to default; None: must be given),
``WRITES`` (the addresses of all that it may want, with ``*`` for the name of a link; the files that
bring its rules back at boot follow from them) and the pure functions

``guard(finding, facts, terms) -> str | None``
    the reason not to, or None. ``finding`` is None for a standing fix (``require``).
``desired(finding, facts, terms) -> tuple[Wanted, ...] | Advice``
    the resources as they shall be, or what a person should do.
``impact(finding, facts, terms) -> str``
    one line: what the change does to traffic and memory.

A fix whose one resource serves several findings also has

``merge(one, other) -> Wanted``
    both states in one. What is in force already is merged in, too, unless the plan prunes.

A fix whose guard's questions follow from its parameters also has

``topics(params) -> frozenset[str]``
    what probes read for one use of it, beside ``TOPICS``. Raises ConfigError where they are wrong.

A fix that acts on details of a finding which differ from scan to scan also has

``approved(was, now) -> Finding``
    the finding of now, with no more of them than ``was``, the one of a saved plan, names.
"""
