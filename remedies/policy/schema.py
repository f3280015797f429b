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

from remedies import catalogue


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


class PolicySource(_Strict):
    """One policy file."""

    api_version: Literal["remedy/v1"] = Field(alias="apiVersion")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    extends: Text = Field(
        "", description="A shipped policy's name, or a file's path from this file's folder."
    )
    backend: Literal["auto", "nftables", "iptables"] = Field(
        "auto", description="What rules are written with."
    )
    persist: bool = Field(False, description="Whether fixes survive a reboot.")
    rules: dict[str, RuleSource] = Field({}, description="By condition.")
    require: list[RequireSource] = Field([], description="Standing fixes.")
    waivers: list[WaiverSource] = []


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy file, with the ids this version knows."""
    schema = PolicySource.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "remedy policy"
    conditions, fixes = list(catalogue.condition_ids()), list(catalogue.fix_ids())
    schema["properties"]["rules"]["propertyNames"] = {"enum": conditions}
    parts = schema["$defs"]
    parts["WaiverSource"]["properties"]["condition"]["enum"] = conditions
    parts["RequireSource"]["properties"]["fix"]["enum"] = fixes
    parts["Every"]["properties"]["all"]["items"]["enum"] = fixes
    parts["RuleSource"]["properties"]["accept_harm"]["items"]["enum"] = fixes
    return schema
