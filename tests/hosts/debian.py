"""Root folders of whole Debian releases, made once by mmdebstrap and then only read."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
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


def root_folder(suite: str = "bookworm", extra: tuple[str, ...] = ()) -> Path:
    """Return the root folder of a release with ``extra`` packages; make it where there is none.

    Every copy is laid over it: nothing may write it. mmdebstrap makes the release itself (for a
    quarter of what debootstrap takes), apt installs ``extra`` in a copy of that.
    """
    packages = (*PACKAGES, *sorted(extra))
    digest = hashlib.sha256(" ".join((suite, *packages)).encode()).hexdigest()[:12]
    ready = CACHE / f"{suite}-{digest}"
    CACHE.mkdir(mode=0o700, exist_ok=True)
    with (CACHE / f"{ready.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.is_dir():
            return ready
        part = ready.with_suffix(".part")
        _clear(part)
        if extra:
            _install(root_folder(suite), part, extra)
        else:
            include = "--include=" + ",".join(PACKAGES)
            _run("mmdebstrap", "--variant=minbase", include, "--dpkgopt=force-unsafe-io",
                 f"--setup-hook={_MERGED_USR}", suite, str(part), mirror())  # fmt: skip
            # Each copy is a machine of its own (machine-id(5)): an empty file is filled at boot.
            (part / "etc/machine-id").write_text("")
        part.rename(ready)
    return ready


def _clear(part: Path) -> None:
    """Take away what a killed mmdebstrap left: its /proc, still mounted there, first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([each for each in mounts if Path(each).is_relative_to(part)]):
        _run("umount", "--lazy", mount)
    if part.exists():
        shutil.rmtree(part)


def _install(base: Path, part: Path, extra: tuple[str, ...]) -> None:
    """Copy a root folder and install packages in the copy; nothing of theirs is started."""
    _run("cp", "--archive", str(base), str(part))
    veto = part / "usr/sbin/policy-rc.d"  # what invoke-rc.d(8) asks
    veto.write_text("#!/bin/sh\nexit 101\n")
    veto.chmod(0o755)
    apt = ("chroot", str(part), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq")
    _run(*apt, "update")
    _run(*apt, "install", "--no-install-recommends", *extra)
    _run(*apt, "clean")
    veto.unlink()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout[-4000:]}{done.stderr[-2000:]}"
