"""Watching a host until somebody ends it: what appears, changes and clears, with the reason.

A *pulse* is what tells cheaply that something in a namespace moved. Only then, while a fault is
active, and now and then in any case, the namespace is scanned; the difference between two scans is
a list of events. Nothing here writes to the host.
"""
