"""What ``monitoring/kubernetes`` makes, by the schemas of Kubernetes, and that it asks for no more.

That these privileges are enough, and each is needed: ``tests/docker/test_kubernetes.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import remedies
from remedies import shipped
from remedies.namespaces import machine

FOLDER = Path(shipped.folder("monitoring")) / "kubernetes"
OLDEST = "1.30"
"""That docs/kubernetes.md names: the first with appArmorProfile."""


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


def resources() -> list[str]:
    return list(read("kustomization.yaml")["resources"])


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", resources())
def test_the_schema_of_each_version_accepts_it(name: str, version: str) -> None:
    kubernetes_validate.validate(read(name), version, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    wrong = read("daemonset.yaml")
    wrong["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_every_file_is_named() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == {*resources()}


def test_it_is_given_what_a_watch_demands_and_no_more() -> None:
    pod = read("daemonset.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    added = {f"CAP_{name}" for name in security["capabilities"]["add"]}
    assert added == {each.name for each in machine.NEEDED}
    assert security["capabilities"]["drop"] == ["ALL"]
    assert (security["privileged"], security["readOnlyRootFilesystem"]) == (False, True)
    assert not {"hostNetwork", "hostIPC", "shareProcessNamespace"} & {*pod}
    (volume,) = pod["volumes"]
    assert volume["hostPath"]["path"] == "/var/lib/remedy"
    assert not pod["automountServiceAccountToken"]


def test_it_runs_this_version() -> None:
    (image,) = read("kustomization.yaml")["images"]
    assert image == {"name": "localhost/remedy", "newTag": remedies.__version__}
