"""What can be wrong with a host. One file per condition; the id is the file's name with dashes.

A condition is a module with ``TITLE``, ``SYMPTOM`` (what a person sees), ``SEVERITY`` (low, medium,
high, critical), ``CONTROLS`` (ids of NIST, CIS and DISA that it is evidence for:
``report/controls.py`` says when), ``NEEDS`` (the fact types it asks for), ``PARAMS`` (name to
default), ``AREA`` (one of ``catalogue.AREAS``), where faults of other conditions cause it
``FOLLOWS`` (their ids), where what a watch compares at each look says whether it holds
``IN_PULSE = True``, and
``detect(facts, params) -> tuple[Finding, ...]``: pure, it imports the model and fact types and
nothing that reads.
``facts.get`` raises Unreadable where a fact is unknown: let it pass, the engine turns it into
"unknown, because". A fact that is readable in part says so in its ``unread``: where that could
hide a fault, raise Unreadable, too.
"""
