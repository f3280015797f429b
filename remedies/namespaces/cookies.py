"""Namespaces by the cookie that the kernel gives each (net/core/net_namespace.c, Linux 5.14).

Unlike an inode a cookie is never used again.
"""

from __future__ import annotations

import socket

from remedies.errors import NotPermitted, UsageError
from remedies.namespaces.find import find
from remedies.namespaces.netns import cookie, inside
from remedies.values import dataclass


@dataclass(frozen=True)
class CookieNamespace:
    """What a cookie stands for now."""

    spec: str
    """What ``--netns`` takes for it; empty: the one this process is in."""
    containers: tuple[str, ...]
    links: dict[int, str]
    """Its interfaces by index."""


def own() -> CookieNamespace:
    """Return the namespace that this thread is in."""
    return CookieNamespace("", (), dict(socket.if_nameindex()))


def by_cookie() -> dict[int, CookieNamespace]:
    """Return every namespace that can be entered, by its cookie. Raises OSError: netns.cookie()."""
    found = {cookie(): own()}
    for namespace in find()[0]:
        if namespace.own:
            continue
        for path in namespace.paths:
            try:
                with inside(path):
                    links = dict(socket.if_nameindex())
                    found[cookie()] = CookieNamespace(namespace.spec, namespace.containers, links)
                break
            except (UsageError, NotPermitted):  # its last process ended meanwhile, or hides
                continue
    return found
