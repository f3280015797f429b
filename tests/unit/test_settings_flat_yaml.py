"""The configuration file where PyYAML is missing: the same meaning, or a clear refusal."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remedies.cli import flat_yaml
from remedies.errors import ConfigError

FILE = "/etc/remedy/remedy.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n\n",
        "---\npolicy: docker-host\nlock-timeout: 20s # long\n",
        "policy: [default, './mine.yaml', \"/etc/x y.yaml\"]\njson: yes\nplain: False\n",
        "policy:\n- default\n- /etc/remedy/own.yaml\nstate_dir: /srv/remedy\n",
        "policy:\n  - default\nlock-timeout: 5\n",
        "lock-timeout: 1.5\nnetns: '12'\npolicy: []\nplain:\n",
    ],
)
def test_what_is_read_means_what_pyyaml_takes_it_for(text: str) -> None:
    assert flat_yaml.read(text, FILE) == (yaml.safe_load(text) or {})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("policy: &a default\n", 1),
        ("policy: {a: b}\n", 1),
        ("json: yes\npolicy: !vault x\n", 2),
        ("netns: 010\n", 1),
        ("lock-timeout: 1:30\n", 1),
        ("netns: 2024-01-01\n", 1),
        ("netns: null\n", 1),
        ("policy: a\npolicy: b\n", 2),
        ("policy: a\n  b\n", 2),
        ("- default\n", 1),
        ("policy: |\n", 1),
        ("netns: 'a\\u0041'\n", 1),
    ],
)
def test_what_might_mean_something_else_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"remedy.yaml:{line}: .* without PyYAML"):
        flat_yaml.read(text, FILE)


@given(st.text(alphabet="aZ09:-[]{}'\"#,.~!&*|>@ \n\tyesNo_/e+", max_size=40))
def test_no_text_is_read_as_something_else(text: str) -> None:
    try:
        found = flat_yaml.read(text, FILE)
    except ConfigError:
        return
    assert found == (yaml.safe_load(text) or {})
