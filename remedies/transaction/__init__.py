"""The only writer. Before-values are on disk before the first write; every write is read back.

``state`` is where things are kept, ``lock`` lets one writer in, ``journal`` is the append-only
record, ``ledger`` what it says (in force, unfinished), ``host`` the way to resources, ``run`` the
writing itself.
"""
