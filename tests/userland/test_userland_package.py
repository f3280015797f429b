"""The Debian package: installed, used, upgraded, removed and purged on Debians that have no more.

What is in force outlives all of it, and its before-values with it: a package that is removed must
not change a host's traffic.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import package
import pytest
from debian import root_folder
from userland_world import Userland

import remedies
from remedies.cli.parser import VERBS
from remedies.lab.scenarios import tcp_invalid_reset
from remedies.lab.world import Options

VALUE = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
RESOURCE = "sysctl:net.netfilter.nf_conntrack_tcp_be_liberal"
NEWER = "9.0"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the package; lintian had nothing to say."""
    return package.shared(tmp_path_factory)


@pytest.fixture(scope="session")
def newer(built: Path) -> Path:
    """Give the same package as a later version."""
    return package.renamed(built, NEWER)


@pytest.fixture(params=("bookworm", "trixie"))
def host(
    request: pytest.FixtureRequest, bundle: Path, built: Path, newer: Path
) -> Iterator[Userland]:
    """Give a Debian with what the package depends on, in a world that has the fault."""
    root = root_folder(request.param, extra=("python3-nftables",))
    with Userland("userland", Options("nft", 4), root, bundle) as made:
        tcp_invalid_reset.build(made)
        for file in (built, newer):
            shutil.copy(file, made.root / "root" / file.name)
        yield made


def installed(host: Userland, file: Path) -> str:
    """Install a package as a person does, and return what was printed."""
    return host.sh("apt-get", "-qq", "--no-install-recommends", "install", f"/root/{file.name}",
                   DEBIAN_FRONTEND="noninteractive")  # fmt: skip


def taken_away(host: Userland, how: str) -> str:
    """Remove or purge it, and return what was printed."""
    return host.sh("dpkg", f"--{how}", "remedy")


def remedy(host: Userland, *words: str, code: int = 0) -> dict[str, object]:
    """Run the installed command with --json."""
    return dict(json.loads(host.sh("remedy", "--json", *words, code=code)))


def test_it_says_what_the_tool_says(built: Path) -> None:
    changelog = (package.PROJECT / "debian/changelog").read_text()
    assert changelog.startswith(f"remedy ({remedies.__version__}) ")
    assert built.name == f"remedy_{remedies.__version__}_all.deb"


def test_from_the_first_day_to_the_last(host: Userland, built: Path, newer: Path) -> None:
    before = host.files()
    value = host.sh("cat", VALUE)
    installed(host, built)
    pages = {path.name for path in (host.root / "usr/share/man/man1").glob("remedy*")}
    assert pages == {"remedy.1.gz", *(f"remedy-{verb}.1.gz" for verb in VERBS)}
    host.sh("bash", "-n", "/usr/share/bash-completion/completions/remedy")
    host.sh("systemd-analyze", "--man=no", "verify", "/usr/lib/systemd/system/remedy-scan.timer")

    assert remedy(host, "apply", "--yes", "--window", "0")["outcome"] == "applied"
    status = remedy(host, "status")
    upgraded = installed(host, newer)
    assert "error" not in upgraded.lower()
    assert host.sh("dpkg-query", "-W", "-f", "${Version}", "remedy") == NEWER
    assert remedy(host, "status")["in_force"] == status["in_force"]
    assert RESOURCE in taken_away(host, "remove")
    assert RESOURCE in taken_away(host, "purge")
    assert host.sh("cat", VALUE) != value

    installed(host, built)
    assert remedy(host, "status")["in_force"] == status["in_force"]
    remedy(host, "rollback", "--every", "--yes")
    assert host.sh("cat", VALUE) == value
    assert RESOURCE not in taken_away(host, "remove")
    taken_away(host, "purge")
    assert not (host.root / "var/lib/remedy").exists()
    assert host.files() == before
