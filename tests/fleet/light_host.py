"""A light fleet host: run in a network and a mount namespace of its own, it becomes sshd.

    light_host.py SSHD FOLDER [legacy | minimal ROOT]

/etc, /var/lib, /root and /run are overlaid, so nothing that is done there outlives the namespace.
SSHD is the server's file. FOLDER holds ``sshd_config`` and, if there are any, programs for the
front of PATH in ``bin``. ``minimal``: it lives in a copy of the Debian in ROOT, with its own sshd,
that was never given more of Python than python3-minimal.
"""

import os
import subprocess
import sys
from pathlib import Path

PYTHON = ("python3", "libpython3-stdlib")
"""What python3-minimal does without; each of them stands before the package of one version."""


def run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def mount(*words: str) -> None:
    run("mount", *words)


def overlay(layers: Path, lower: str, place: str) -> None:
    """Lay what is written at ``place`` over ``lower``."""
    upper, work = (layers / f"{place.strip('/').replace('/', '-')}-{part}" for part in ("u", "w"))
    upper.mkdir()
    work.mkdir()
    mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", "overlay",
          place)  # fmt: skip


def enter_minimal(layers: Path, folder: Path, root: str) -> None:
    """Go into a copy of ROOT whose Python is minimal; FOLDER and its parent are seen there too."""
    inside = layers / "inside"
    inside.mkdir()
    overlay(layers, root, str(inside))
    for name in ("proc", "dev"):
        mount("--rbind", f"/{name}", str(inside / name))
    seen = inside / str(folder.parent).lstrip("/")
    seen.mkdir(parents=True)
    mount("--bind", str(folder.parent), str(seen))
    os.chroot(inside)
    os.chdir("/")
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", DEBIAN_FRONTEND="noninteractive")
    listed = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\n"], capture_output=True,
                            text=True, check=True).stdout.split()  # fmt: skip
    versioned = [p for p in listed if p.startswith(("python3.", "libpython3."))]
    there = [p for p in (*PYTHON, *versioned) if p in listed and not p.endswith("-minimal")]
    run("dpkg", "--purge", "--force-depends", *there)


def enter_own(layers: Path) -> None:
    """Let what is written into this machine's folders vanish with the namespace."""
    for name in ("/etc", "/var/lib", "/root", "/run"):
        overlay(layers, name, name)
    # What root's shell does on this machine when somebody logs in is this machine's affair.
    for name in (".bashrc", ".profile", ".bash_profile", ".bash_login"):
        if os.path.exists(f"/root/{name}"):
            mount("--bind", "/dev/null", f"/root/{name}")
    Path("/var/lib/remedy").mkdir(mode=0o700, exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=0700", "tmpfs", "/var/lib/remedy")
    passwd = Path("/etc/passwd")
    if "\nsshd:" not in passwd.read_text():  # an sshd that is only unpacked has no user yet
        with passwd.open("a") as users:
            users.write("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")


def take_nf_tables_away() -> None:
    """Leave iptables-legacy alone, as on a host where nothing else is installed."""
    for name in ("iptables", "ip6tables"):
        for part in ("", "-save", "-restore"):
            alternative = Path(f"/etc/alternatives/{name}{part}")
            alternative.unlink(missing_ok=True)
            alternative.symlink_to(f"/usr/sbin/{name}-legacy{part}")
    for library in Path("/usr/lib").glob("*/libnftables.so.1"):
        mount("--bind", "/dev/null", str(library.resolve()))
    for program in ("nft", "xtables-nft-multi"):
        mount("--bind", "/dev/null", f"/usr/sbin/{program}")


def main(sshd: str, folder: Path, how: "list[str]") -> None:
    mount("--make-rprivate", "/")
    layers = folder / "layers"
    layers.mkdir()
    mount("-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(layers))
    if how[:1] == ["minimal"]:
        enter_minimal(layers, folder, how[1])
        sshd = "/usr/sbin/sshd"
    else:
        enter_own(layers)
    if how == ["legacy"]:
        take_nf_tables_away()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # -r: it does not start itself again for each connection.
    os.execv(sshd, [sshd, "-D", "-e", "-r", "-f", f"{folder}/sshd_config"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
