"""Advice as text. A fix returns data; here it becomes words.

The short text is always there and costs nothing. The long one, with recipes to paste, is rendered
by Jinja2 from ``templates/`` and only where somebody asks for it with ``-v``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from remedies.errors import InputError, RemedyError
from remedies.facts.daemon_lines import lines_of, option_of, sentence
from remedies.facts.daemon_option import POD, DaemonOption
from remedies.libraries import how_to_add
from remedies.model import Advice, Plan
from remedies.printable import at

Values = Mapping[str, Any]


def texts(plan: Plan) -> dict[int, str]:
    """Return the short text of every advice of a plan, by its position."""
    return {position: advice_text(advice) for position, advice in enumerate(plan.advice)}


def advice_text(advice: Advice, *, long: bool = False) -> str:
    """Return the text of an advice; ``long`` adds what a person can paste.

    An advice whose template this version does not know (a plan saved by a newer one) is shown as
    its values, whole. Raises RemedyError where the long text is asked for and Jinja2 is missing,
    InputError where a value that the text needs is missing or of another kind.
    """
    try:
        short = _SHORT.get(advice.template, _values)(advice.values) + _uplink(advice.values)
        if not long or advice.template not in _LONG:
            more = " 'remedy plan -v' shows how." if advice.template in _LONG else ""
            return short + more
        return short + "\n\n" + _rendered(_LONG[advice.template], advice.values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # of a saved plan
        raise InputError(
            f"the advice of {advice.fix} is not as expected ({error!r})", "make a new plan"
        ) from error


def _bind(values: Values) -> str:
    who, row = _who(values), _option(values)
    addresses = [str(a) for a in values["addresses"]]
    if row is not None:
        chosen = addresses if values["asked"] else addresses[:1]
        told = sentence(row, chosen, str(values["port"]), asked=bool(values["asked"]))
        return f"{who}: {told}{_pod(values)}"
    if not addresses:
        return f"{who} should bind to the one address its clients ask, not to every address."
    where = " or ".join(at(address, str(values["port"])) for address in addresses)
    why = "the address clients asked" if values["asked"] else "the one that its clients ask"
    return (
        f"Let {who} bind to {where} ({why}) instead of every address, or set IP_PKTINFO on its "
        f"socket and answer from the address asked.{_pod(values)}"
    )


def _pod(values: Values) -> str:
    return f" {POD.note}" if values.get("pod") else ""


def _option(values: Values) -> Optional[DaemonOption]:
    argv = tuple(str(word) for word in values.get("argv") or ())
    return option_of(str(values.get("process") or ""), argv)


def _proxy(values: Values) -> str:
    port, inside = str(values["port"]), str(values["container_port"] or values["port"])
    name = values["container_name"] or values["container_address"] or "the container"
    asked = [f"{at(str(a), port)}:{inside}/udp" for a in values["addresses"]]
    publish = f" (--publish {asked[0]})" if asked else ""
    if values.get("clients") == "outside":
        return (
            f"Publish port {port} of {name} on the one address that clients ask{publish}; or take "
            "Docker 28.0.0 or later, whose proxy answers from the address asked; or, where the "
            'container has an address of the clients\' IP version, set "userland-proxy": false '
            "for Docker."
        )
    return (
        f"Let containers of its network ask {name} itself, port {inside}; or publish port {port} "
        f'on one address{publish}; or set "userland-proxy": false for Docker; or update Docker: '
        "from 28.0.0 on its proxy answers from the address asked."
    )


def _sends(values: Values) -> str:
    who, port = _who(values), str(values["port"])
    where = " and ".join(at(str(address), port) for address in values["addresses"])
    if values["sends"] == "other-socket":
        return (
            f"{who} is bound to {where} already. Let it answer by the socket that was asked, or "
            "give it a network namespace (or a machine) with that one address. Binding it again "
            "does not help, and neither does source NAT."
        )
    row = _option(values)
    bound = f"let it bind to {where} (the address clients asked)."
    if row is not None:
        bound = sentence(row, [str(a) for a in values["addresses"]], port)
    return (
        f"{who} asks for IP_PKTINFO and sends some answers without a source: update it, or {bound}"
    )


def _uplink(values: Values) -> str:
    address, _, link = str(values.get("uplink") or "").partition("/")
    if not link:
        return ""
    return (
        f" A bound server's answers still leave by {link}, the way to these clients; where that "
        f"network drops them, route them by their source: 'ip rule add from {address} lookup "
        "TABLE', with a default route by the other uplink in TABLE."
    )


def _who(values: Values) -> str:
    name = values["process"] or "the server"
    known = {
        "container": f"{name} (process {values['pid']}, in container {values['container']})",
        "unit": f"{name} (process {values['pid']}, of {values['unit']})",
        "process": f"{name} (process {values['pid']})",
    }
    return known.get(str(values["place"]), "the server")


def _pressure(values: Values) -> str:
    parts = []
    if values["source"]:
        name, state = values["source_container"], values["source_state"]
        who = f"container {name} ({values['source']})" if name else values["source"]
        flows = f"{values['source_flows']} {values['source_protocol']} flows"
        parts.append(f"look at what {who} does: it began {flows}{f' ({state})' if state else ''}")
    if values["timeout"]:
        parts.append(f"let such flows go sooner ({values['timeout']})")
    if values["port"]:
        service = f"{values['protocol']} {at(str(values['address']), str(values['port']))}"
        who = values["process"] or "the service"
        parts.append(f"keep {who} ({service}) out of tracking by the fix 'notrack', if no NAT is "
                     "on its way")  # fmt: skip
    parts.append(f"raise net.netfilter.nf_conntrack_max (about {values['bytes']} bytes a flow)")
    text = "; or ".join(map(str, parts))
    return f"{text[0].upper()}{text[1:]}."


def _fix(values: Values) -> str:
    resources = ", ".join(map(str, values["resources"]))
    return (
        f"remedy can do this by itself ({resources}): set 'mode: fix' for "
        f"{values['condition']} in the policy."
    )


def _values(values: Values) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items())


_SHORT: dict[str, Callable[[Values], str]] = {
    "bind": _bind,
    "sends": _sends,
    "proxy": _proxy,
    "pressure": _pressure,
    "fix": _fix,
}
_LONG = {"bind": "bind.txt.j2", "proxy": "proxy.txt.j2"}


def _rendered(template: str, values: Values) -> str:
    try:
        import jinja2
    except ImportError:
        raise RemedyError("the long advice needs Jinja2", how_to_add("jinja2")) from None
    environment = jinja2.Environment(  # noqa: S701  # plain text for a terminal, cleaned there
        loader=jinja2.PackageLoader("remedies.planning"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["with_port"] = at
    row = _option(values)
    addresses = [str(address) for address in values["addresses"]] or ["ADDRESS"]
    lines = () if row is None else lines_of(row, addresses, str(values["port"]))
    try:
        text = environment.get_template(template).render(
            {"option": row, "known": row is not None, "lines": lines, "pod": "", **values}
        )
    except jinja2.UndefinedError as error:
        raise ValueError(str(error)) from error
    return text.strip()
