"""The only writer. Before-values are on disk before the first write; every write is read back.

``state`` is where things are kept, ``lock`` lets one writer in, ``journal`` is the append-only
record and ``segments`` its files, ``ledger`` what it says (in force, waiting, unfinished), ``host``
the way to resources, ``run`` the writing itself, ``undo`` the way back. ``guard`` is the handle of
the process beside the writer that undoes what the writer cannot: what it does (``watch``), what it
knows even without a journal (``memory``), how it undoes (``rescue``), in a unit of its own
(``scope``) where systemd runs, and with a loud word to everybody (``announce``).
``undofile`` is the way back without this
tool.
"""
