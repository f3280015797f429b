"""Values out of a vault, found in what would be written to plans, journals and records.

Ansible marks a value that was encrypted alone. One out of a file that was encrypted as a whole
looks like any other, and so does a text that a template has put either into. So what is about to
be written is searched for the values themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TYPES = ("AnsibleVaultEncryptedUnicode", "EncryptedString", "VaultedValue")
"""Of an encrypted value (ansible-core up to 2.18, and since), and of the tag on a decrypted one."""
_HEADER = b"$ANSIBLE_VAULT"
_LONG = 8
"""Characters of a secret that is found within a word; a shorter one is found as a whole word."""
_SHORT = 4
"""A shorter one is known by its mark alone: it is everywhere."""
_MAGIC = frozenset(
    [
        "ansible_facts",
        "ansible_play_batch",
        "ansible_play_hosts",
        "ansible_play_hosts_all",
        "group_names",
        "groups",
        "hostvars",
        "omit",
        "play_hosts",
        "vars",
    ]
)
"""What Ansible adds to a host's variables: facts, names, and the same again for every host."""
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

Secrets = dict[str, str]
"""Each secret, and the variable or file that it is out of."""


class Vault:
    """What one host's variables hold of secrets."""

    def __init__(self, variables: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        """Look at the host's variables, not templated, and at Ansible's cache of files of them."""
        self._known: dict[str, bool] = {}
        self._found: Secrets = {}
        names = {str(variables.get("inventory_hostname")), "all", *variables.get("group_names", ())}
        for name, value in variables.items():
            if name not in _MAGIC:
                for leaf in _leaves(value):
                    if _is_marked(leaf) or self._is_file(_source(leaf)):
                        self._add(leaf, name)
        for path, data in files.items():
            if _concerns(path, names) and self._is_file(path):
                for leaf in _leaves(data):
                    self._add(leaf, path)

    def within(self, value: object) -> str:
        """Return what a secret in ``value`` is out of; empty where it holds none."""
        for leaf in _leaves(value):
            if _is_marked(leaf) or self._is_file(_source(leaf)):
                return "encrypted itself"
            text = str(leaf)
            for secret, where in self._found.items():
                if secret in text and (len(secret) >= _LONG or _is_word(secret, text)):
                    return where
        return ""

    def _add(self, leaf: object, where: str) -> None:
        try:
            text = str(leaf)
        except Exception:  # Ansible's own, where the password is another vault's
            return
        for part in _TEMPLATE.split(text):
            if len(part.strip()) >= _SHORT:
                self._found.setdefault(part.strip(), where)

    def _is_file(self, path: str) -> bool:
        """Tell whether this file is encrypted as a whole."""
        if path and path not in self._known:
            try:
                with open(path, "rb") as file:
                    self._known[path] = file.read(len(_HEADER)) == _HEADER
            except OSError:
                self._known[path] = False
        return self._known.get(path, False)


def _leaves(value: object) -> Iterator[object]:
    """Yield every value that is no list and no dictionary, and every key."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and (
        type(value).__name__ not in _TYPES
    ):  # fmt: skip
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, bool) and value is not None:
        yield value


def _is_marked(value: object) -> bool:
    """Tell whether Ansible says that a value comes out of a vault."""
    tags = getattr(value, "_ansible_tags_mapping", None) or ()
    return type(value).__name__ in _TYPES or any(tag.__name__ in _TYPES for tag in tags)


def _source(value: object) -> str:
    """Return the file that Ansible says a value was written in; empty where it says none."""
    position = getattr(value, "ansible_pos", None)  # up to 2.18: file, line, column
    if position:
        return str(position[0])
    tags = getattr(value, "_ansible_tags_mapping", None) or {}
    found = [tag for kind, tag in tags.items() if kind.__name__ == "Origin"]
    return str(found[0].path or "") if found else ""


def _concerns(path: str, names: set[str]) -> bool:
    """Tell whether a file of variables can be about a host that has these names."""
    parts = str(path).split("/")
    for folder in ("host_vars", "group_vars"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1].rpartition(".")[0] in names or (
                parts[parts.index(folder) + 1] in names
            )
    return True


def _is_word(secret: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", text) is not None
