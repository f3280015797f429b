"""Build the Ansible collection ``remedy.fleet``: ``python playbooks/collection/build.py FOLDER``.

It holds the playbooks with full names, the action, its documentation, a role, the package as its
wheel has it and the binding of libnftables, so that a controller needs nothing but ansible-core.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

import remedies
from remedies.bundle import build as bundle

HERE = Path(__file__).resolve().parent
PLAYBOOKS, ROOT = HERE.parent, HERE.parent.parent
NAME = "remedy.fleet"
_ACTION = re.compile(r"^( +)remedy:$", re.MULTILINE)


def build(folder: Path) -> Path:
    """Write the collection's archive into ``folder`` and return its path.

    Raises CalledProcessError where pip or ansible-galaxy fails; each has said why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="remedy-collection-") as top:
        tree = Path(top) / "tree"
        _lay(tree)
        _run(
            "ansible-galaxy", "collection", "build", "--force", f"--output-path={folder}", cwd=tree
        )
    return folder / f"{NAME.replace('.', '-')}-{remedies.__version__}.tar.gz"


def _lay(tree: Path) -> None:
    """Lay out the collection's files."""
    shutil.copytree(HERE, tree, ignore=shutil.ignore_patterns("build.py", "__pycache__"))
    galaxy = yaml.safe_load((HERE / "galaxy.yml").read_text())
    (tree / "galaxy.yml").write_text(yaml.safe_dump({**galaxy, "version": remedies.__version__}))
    for name in ("LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree / name)
    for kind, source in (("action", "action_plugins"), ("modules", "library")):
        (tree / "plugins" / kind).mkdir(parents=True)
        shutil.copy(PLAYBOOKS / source / "remedy.py", tree / "plugins" / kind / "remedy.py")
    (tree / "playbooks").mkdir()
    for playbook in PLAYBOOKS.glob("*.yml"):
        text = _ACTION.sub(rf"\1{NAME}.remedy:", playbook.read_text())
        (tree / "playbooks" / playbook.name).write_text(text)
    _run("python", "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "wheels",
         str(ROOT), cwd=tree.parent)  # fmt: skip
    (wheel,) = (tree.parent / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("remedies/"):
                archive.extract(name, tree)
    for name, data in bundle.binding().items():
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(data.removeprefix(b"#!/usr/bin/python\n"))  # it is a module


def _run(*argv: str, cwd: Path) -> None:
    program = Path(sys.executable).with_name(argv[0])  # of this environment, whatever PATH says
    subprocess.run([str(program), *argv[1:]], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]).resolve())}\n")
