"""The Debian package, built by Debian's own tools from a copy of the project."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import once
import pytest
from debian import root_folder

import remedies

PROJECT = Path(__file__).resolve().parent.parent.parent
SUITE = "trixie"
"""What it is built on: policies are compiled with a pydantic that bookworm does not have."""
_LEFT_OUT = (".git", ".venv", "build", "dist", ".*_cache", ".hypothesis", "__pycache__", "tests")
# A mount namespace of its own holds the overlay; all of it is gone with the shell.
_BUILD = """\
set -e
mount -t tmpfs -o size=1g,mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
mkdir -p /mnt/root/src
mount --bind "$2" /mnt/root/src
mount -t proc proc /mnt/root/proc
exec chroot /mnt/root sh -ec '
cd /src/remedy
dpkg-checkbuilddeps -I
dpkg-buildpackage -b -us -uc -d
lintian --allow-root --pedantic --info --display-experimental \\
  --fail-on error,warning,info,pedantic ../*.changes'
"""


def build(folder: Path) -> Path:
    """Build the package in ``folder``, which is empty, and return it; lintian finds nothing.

    Nothing is fetched while it is built: there is no network.
    """
    shutil.copytree(PROJECT, folder / "remedy", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    root = root_folder(SUITE, extra=(*build_depends(), "lintian"))
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--", "sh", "-c", _BUILD, "sh", str(root), str(folder)],
        capture_output=True, text=True, check=False, timeout=300, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (package,) = folder.glob("*.deb")
    return package


def shared(factory: pytest.TempPathFactory) -> Path:
    """Return the package, built once a run: its processes have one folder above theirs."""
    folder = once.folder(factory) / "remedy-package"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(exist_ok=True)
        made = folder / f"remedy_{remedies.__version__}_all.deb"
        return made if made.exists() else build(folder)


def build_depends() -> tuple[str, ...]:
    """Return the names of the packages that ``debian/control`` builds with."""
    control = (PROJECT / "debian/control").read_text()
    field = re.search(r"^Build-Depends:\n((?: .*\n)+)", control, re.MULTILINE)
    assert field
    return tuple(line.split()[0].rstrip(",") for line in field[1].splitlines())


def renamed(package: Path, version: str) -> Path:
    """Return the same package as another version, made in its folder."""
    tree, other = package.parent / version, package.with_name(f"remedy_{version}_all.deb")
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=60)
    control = tree / "DEBIAN/control"
    text, count = re.subn(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M)
    assert count == 1
    control.write_text(text)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, other],
        check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return other
