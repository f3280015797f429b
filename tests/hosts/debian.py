"""Root folders of whole Debian releases, made once by mmdebstrap and then only read."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SUITES = ("bullseye", "bookworm", "trixie")
"""nft 0.9.8, iptables 1.8.7, Python 3.9; 1.0.6, 1.8.9, 3.11; 1.1.3, 1.8.11, 3.13."""
PACKAGES = (
    "dbus",
    "iproute2",
    "iptables",
    "libnftables1",
    "libpam-systemd",
    "nftables",
    "openssh-client",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)
CACHE = Path("/var/tmp/remedy-tests-hosts")
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh"
"""Lets /bin and the like be links into /usr before anything is unpacked, as on installed hosts."""


def mirror() -> str:
    """Return where this machine's own packages of a Debian release come from."""
    layout = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", layout, "Created-By: Packages"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    entries = [line.split() for line in listed.splitlines()]
    main = [entry for entry in entries if len(entry) == 3 and entry[1] == "main"]
    # Updates and security archives hold no whole release.
    main.sort(key=lambda entry: "-" in entry[0] or "/" in entry[0])
    assert main, "apt has no source of Debian's main component"
    return main[0][2]


@dataclass(frozen=True)
class Root:
    """What a copy of a Debian is laid over; as text, what ``lowerdir`` of an overlay takes."""

    base: Path
    """The release's own root folder."""
    more: Path | None = None
    """What further packages have added to it and changed in it."""

    def __str__(self) -> str:
        return f"{self.more}:{self.base}" if self.more else str(self.base)


def root_folder(suite: str = "bookworm", extra: tuple[str, ...] = ()) -> Root:
    """Return the root folder of a release with ``extra`` packages; make it where there is none.

    Every copy is laid over it: nothing may write it. mmdebstrap makes the release itself (for a
    quarter of what debootstrap takes), apt installs ``extra`` in a layer over that.
    """
    packages = (*PACKAGES, *sorted(extra))
    recipe = " ".join((suite, *packages)).encode() + Path(__file__).read_bytes()
    digest = hashlib.sha256(recipe).hexdigest()[:12]
    ready = CACHE / f"{suite}-{digest}"
    CACHE.mkdir(mode=0o700, exist_ok=True)
    base = root_folder(suite).base if extra else ready
    with (CACHE / f"{ready.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.is_dir():
            part = ready.with_suffix(".part")
            _clear(part)  # of somebody who was killed
            part.mkdir()
            made = _add(part, base, extra) if extra else _release(part, suite)
            made.rename(ready)
            _clear(part)
    return Root(base, ready) if extra else Root(base)


def _clear(place: Path) -> None:
    """Take a folder away, and what is mounted there first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([each for each in mounts if Path(each).is_relative_to(place)]):
        _run("umount", "--lazy", mount)
    if place.exists():
        shutil.rmtree(place)


def _release(part: Path, suite: str) -> Path:
    """Make the release itself; apt's lists stay in it, for those that install more."""
    root = part / "root"
    _run("mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(PACKAGES),
         "--dpkgopt=force-unsafe-io", "--skip=cleanup/apt/lists", f"--setup-hook={_MERGED_USR}",
         suite, str(root), mirror())  # fmt: skip
    # Each copy is a machine of its own (machine-id(5)): an empty file is filled at boot.
    (root / "etc/machine-id").write_text("")
    return root


def _add(part: Path, base: Path, extra: tuple[str, ...]) -> Path:
    """Install packages in a layer over a root folder; nothing of theirs is started."""
    root, upper, work = (part / name for name in ("root", "upper", "work"))
    for folder in (root, upper, work):
        folder.mkdir()
    layers = f"lowerdir={base},upperdir={upper},workdir={work}"
    _run("mount", "-t", "overlay", "-o", layers, "overlay", str(root))
    veto = root / "usr/sbin/policy-rc.d"  # what invoke-rc.d(8) asks
    veto.write_text("#!/bin/sh\nexit 101\n")
    veto.chmod(0o755)
    apt = ("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq")
    unsafe = ("-o", "Dpkg::Options::=--force-unsafe-io")
    _run(*apt, "install", "--no-install-recommends", *unsafe, *extra)
    _run(*apt, "clean")
    shutil.rmtree(root / "var/lib/apt/lists")
    veto.unlink()
    _run("umount", str(root))
    return upper


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout[-4000:]}{done.stderr[-2000:]}"
