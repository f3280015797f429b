"""What the administrator wants: YAML, validated and compiled to a plain :class:`model.Policy`.

Loading is on the path of every ``remedy plan``, so the compiled form is used where there is one:
from the wheel for a shipped policy, from root's cache for any other. Only what remains is compiled
here and now, and only then are PyYAML and pydantic imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import remedies
from remedies import codec, model, shipped
from remedies.errors import ConfigError, InputError
from remedies.libraries import how_to_add
from remedies.policy import cache
from remedies.policy import sources as policy_sources

DEFAULT = ("default",)
"""The sources used where neither command line nor configuration names any."""


def load(sources: Sequence[str] = DEFAULT, cache_dir: Optional[str] = None) -> model.Policy:
    """Return the policy that these sources make together, later ones winning.

    A source is the name of a shipped policy or a file: YAML, or NAME.json as
    :func:`to_compiled` wrote it, which has to be the only one. ``cache_dir`` is a folder of root's
    own that keeps compiled policies (made if absent), or None for no cache. Raises ConfigError.
    """
    sources = tuple(sources) or DEFAULT
    if len(sources) == 1:
        ready = _compiled_file(sources[0]) or _shipped(sources[0])
        if ready is not None:
            return ready
    if cache_dir is not None:
        kept = cache.read(cache_dir, sources)
        if kept is not None:
            return kept
    try:
        # Lazy: a quarter of a second of PyYAML and pydantic that a compiled policy does not need.
        from remedies.policy import compile as compiler
    except ImportError as error:  # not there, or so old that a name is not in it
        if error.name is None or error.name.startswith("remedies"):
            raise
        raise ConfigError(
            f"policy {', '.join(sources)} is not compiled, and compiling needs {error.name}, "
            "which is missing here or too old",
            f"{how_to_add(error.name.partition('.')[0])}, or use a shipped policy",
        ) from error
    compiled = compiler.compile_policy(sources)
    if cache_dir is not None:
        cache.write(cache_dir, sources, compiled.policy, compiled.read)
    return compiled.policy


def _compiled_file(source: str) -> Optional[model.Policy]:
    """Return the policy of a file NAME.json; None for any other source."""
    if not source.endswith(".json"):
        return None
    place = policy_sources.locate(source)
    return from_compiled(policy_sources.read(place).decode(errors="replace"), place.label)


def from_compiled(text: str, where: str) -> model.Policy:
    """Return a policy as :func:`to_compiled` wrote it.

    Raises InputError for anything else, and for what another version of the tool compiled:
    conditions and parameters may mean something else there.
    """
    entry = codec.loads(text, where)
    if not isinstance(entry, dict) or set(entry) != {"tool", "policy"}:
        raise InputError(f"{where}: not a compiled policy", "give YAML as a file instead")
    if entry["tool"] != remedies.__version__:
        raise InputError(
            f"{where}: compiled by remedies {entry['tool']}, this is {remedies.__version__}",
            "use the same version on both sides",
        )
    return codec.decode(model.Policy, entry["policy"], where)


def to_compiled(policy: model.Policy) -> str:
    """Return a policy as one line of JSON that :func:`from_compiled` reads."""
    return codec.dumps({"tool": remedies.__version__, "policy": policy})


def _shipped(name: str) -> Optional[model.Policy]:
    """Return a shipped policy compiled when the wheel was built; None: there is none."""
    data = shipped.compiled(name)
    if data is None:
        return None
    where = f"compiled policy {name}"
    entry = codec.loads(data.decode(), where)
    if entry.get("tool") != remedies.__version__:
        return None
    return codec.decode(model.Policy, entry["policy"], where)
