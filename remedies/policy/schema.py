"""What a policy file may say, as pydantic models: types and words, one file at a time.

The defaults are those of a policy that extends nothing: a file that leaves a key out leaves what it
extends as it is. Which conditions and fixes there are is :mod:`remedies.policy.references`'s to
judge.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    WithJsonSchema,
)

from remedies import HOME, catalogue


def _mode(value: object) -> object:
    """Read false as ``off``: what YAML 1.1 tools write for it."""
    return "off" if value is False else value


def _date(value: object) -> object:
    """Read a quoted date as a date; anything else is pydantic's to refuse."""
    if isinstance(value, str):
        return datetime.date.fromisoformat(value)
    return value


def _form(value: object) -> str:
    """Tell which of its two forms ``fixes`` has, as read (a mapping) or validated (a model)."""
    return "every" if isinstance(value, (dict, BaseModel)) else "first"


Mode = Annotated[
    Literal["fix", "advise", "off"],
    BeforeValidator(_mode),
    # 'off' unquoted is false to an editor that reads YAML 1.1.
    WithJsonSchema({"enum": ["fix", "advise", "off", False]}),
]
Until = Annotated[datetime.date, BeforeValidator(_date)]
Text = Annotated[str, Field(min_length=1)]
Params = dict[str, JsonValue]


class _Strict(BaseModel):
    """No unknown keys and no conversions: a typo must not become a default."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Every(_Strict):
    """Several fixes at once instead of the first that is not refused."""

    all: list[str] = Field(min_length=1, description="Every one of these fixes is applied.")


Fixes = Annotated[
    Annotated[list[str], Tag("first")] | Annotated[Every, Tag("every")], Discriminator(_form)
]


class RuleSource(_Strict):
    """What is done about one condition."""

    mode: Mode = Field(
        "advise", description="fix: change the host. advise: say what to do. off: do not look."
    )
    from_: Literal["exposed", "active", "proven"] = Field(
        "exposed", alias="from", description="The weakest verdict that is acted on."
    )
    fixes: Fixes = Field(
        [], description="Fixes in order of preference; the first that is not refused is used."
    )
    params: Params = Field({}, description="Parameters of the condition.")
    accept_harm: list[str] = Field(
        [],
        description="Fixes that may be applied where the fault is only exposed, although they are "
        "not harmless everywhere.",
    )


class RequireSource(_Strict):
    """A fix that stands whatever the detectors say."""

    fix: str
    params: Params = Field({}, description="Parameters of the fix.")
    reason: Text = Field(description="Why, for whoever reads the plan.")


class WaiverSource(_Strict):
    """A finding that somebody has accepted until a date."""

    condition: str
    subject: Text = Field(description="A shell pattern over the finding's subject.")
    until: Until = Field(description="The last day it counts, in UTC.")
    reason: Text
    owner: Text


class UnattendedSource(_Strict):
    """What 'remedy watch --unattended' may apply with nobody there."""

    conditions: list[str] = Field(
        min_length=1,
        description="Whose proven faults: their rules have mode fix and a fix that is harmless.",
    )
    budget: int = Field(2, ge=1, le=20, description="Applies in an hour, in all namespaces.")
    each: int = Field(1, ge=1, le=20, description="Of these, in one namespace.")


class SetSource(_Strict):
    """What a site condition sets: a sysctl to a value, a module to load at boot, or a file."""

    sysctl: str = Field("", description="A key under net.")
    value: str | int = Field("", description="The sysctl's value.")
    module: str = Field("", description="A kernel module that is loaded from the next boot on.")
    file: str = Field(
        "",
        description="A .link file in /etc/systemd/network, or a .conf file in "
        "/etc/systemd/networkd.conf.d, whose name contains remedy-ID.",
    )
    content: str = Field("", description="The file's whole text, with a line feed at its end.")


class SiteSource(_Strict):
    """A condition that this policy states itself."""

    id: str = Field(pattern=r"^site\.[a-z0-9](-?[a-z0-9]){0,39}$")
    title: Text = Field(description="What is wrong, in one line.")
    why: str = Field("", description="Why it matters, for 'remedy explain'.")
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    fact: str = Field(description="sysctl:KEY, module:NAME or file:PATH (under /etc).")
    is_: Literal["<", ">", "==", "!=", "contains", "lacks", "absent", "there"] = Field(
        alias="is", description="How the fact compares with the value where something is wrong."
    )
    value: str | int = Field("", description="None for 'absent' and 'there'.")
    mode: Mode = Field("advise", description="As in rules.")
    set: SetSource | None = Field(None, description="What makes it right; needed for mode: fix.")


class PolicySource(_Strict):
    """One policy file."""

    api_version: Literal["remedy/v1"] = Field(
        alias="apiVersion", description="The format of this file."
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="What plans, journals and reports call it.",
    )
    extends: Text = Field(
        "", description="A shipped policy's name, or a file's path from this file's folder."
    )
    backend: Literal["auto", "nftables", "iptables"] = Field(
        "auto", description="What rules are written with."
    )
    persist: bool = Field(False, description="Whether fixes survive a reboot.")
    rules: dict[str, RuleSource] = Field({}, description="By condition.")
    site: list[SiteSource] = Field([], description="Conditions of this site, without Python.")
    require: list[RequireSource] = Field([], description="Standing fixes.")
    waivers: list[WaiverSource] = Field([], description="Faults that somebody has accepted.")
    unattended: UnattendedSource | None = Field(
        None, description="What a watch may apply with nobody there; null: nothing."
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy file, with the ids this version knows."""
    schema = PolicySource.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = f"{HOME}/schemas/policy-v1.json"
    schema["title"] = "remedy policy"
    conditions, fixes = list(catalogue.condition_ids()), list(catalogue.fix_ids())
    schema["properties"]["rules"]["propertyNames"] = {"enum": conditions}
    parts = schema["$defs"]
    stated = {"pattern": parts["SiteSource"]["properties"]["id"]["pattern"]}
    parts["WaiverSource"]["properties"]["condition"]["anyOf"] = [{"enum": conditions}, stated]
    parts["RequireSource"]["properties"]["fix"]["enum"] = fixes
    parts["UnattendedSource"]["properties"]["conditions"]["items"]["enum"] = conditions
    parts["Every"]["properties"]["all"]["items"]["enum"] = fixes
    parts["RuleSource"]["properties"]["accept_harm"]["items"]["enum"] = fixes
    return schema
