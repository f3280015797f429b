"""The real sshd of a host without systemd: run in the host's network namespace, it becomes sshd.

    unshare --mount login.py SSHD FOLDER

/run is its own and empty, so no systemd is there for who is logged in. FOLDER holds
``sshd_config``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main(sshd: str, folder: Path) -> None:
    """Make what sshd needs of a host, then be it."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"], check=True)
    Path("/run/sshd").mkdir(mode=0o755)
    # What root's shell does on this machine when somebody logs in is this machine's affair.
    for name in (".bashrc", ".profile", ".bash_profile", ".bash_login"):
        if os.path.exists(f"/root/{name}"):
            subprocess.run(["mount", "--bind", "/dev/null", f"/root/{name}"], check=True)
    users = Path("/etc/passwd").read_text()
    if "\nsshd:" not in users:  # an sshd that is only unpacked has no user yet
        (folder / "passwd").write_text(f"{users}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        subprocess.run(["mount", "--bind", str(folder / "passwd"), "/etc/passwd"], check=True)
    os.execv(sshd, [sshd, "-D", "-e", "-f", str(folder / "sshd_config")])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
