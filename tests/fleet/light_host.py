"""A light fleet host: run in a network and a mount namespace of its own, it becomes sshd.

    light_host.py SSHD FOLDER [legacy]

/etc, /var/lib, /root and /run are overlaid, so nothing that is done there outlives the namespace.
SSHD is the server's file. FOLDER holds ``sshd_config`` and, if there are any, programs for the
front of PATH in ``bin``.
"""

import os
import subprocess
import sys
from pathlib import Path


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main(sshd: str, folder: str, legacy: bool) -> None:
    mount("--make-rprivate", "/")
    layers = Path(folder, "layers")
    layers.mkdir()
    mount("-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(layers))
    for name in ("etc", "var/lib", "root", "run"):
        upper, work = (layers / f"{name.replace('/', '-')}-{part}" for part in ("upper", "work"))
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir=/{name},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "-o", options, "overlay", f"/{name}")
    Path("/var/lib/remedy").mkdir(mode=0o700, exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=0700", "tmpfs", "/var/lib/remedy")
    privileges = Path("/run/sshd")
    privileges.mkdir(mode=0o755, exist_ok=True)
    passwd = Path("/etc/passwd")
    if "\nsshd:" not in passwd.read_text():  # an sshd that is only unpacked has no user yet
        with passwd.open("a") as users:
            users.write("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
    if legacy:
        for name in ("iptables", "ip6tables"):
            for part in ("", "-save", "-restore"):
                alternative = Path(f"/etc/alternatives/{name}{part}")
                alternative.unlink(missing_ok=True)
                alternative.symlink_to(f"/usr/sbin/{name}-legacy{part}")
        for library in Path("/usr/lib").glob("*/libnftables.so.1"):
            mount("--bind", "/dev/null", str(library.resolve()))
        for program in ("nft", "xtables-nft-multi"):
            mount("--bind", "/dev/null", f"/usr/sbin/{program}")
    os.execv(sshd, [sshd, "-D", "-e", "-f", f"{folder}/sshd_config"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] == ["legacy"])
