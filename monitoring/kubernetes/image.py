"""Build the container image: ``python monitoring/kubernetes/image.py FOLDER PACKAGE``; as root.

PACKAGE is the Debian package; FOLDER becomes an image layout (OCI Image Layout, version 1.0.0),
which ``docker load`` and ``ctr images import`` take, too, as a tar: it holds both indexes. The root
file system is what the package depends on, unpacked by mmdebstrap, and nothing that is run to
install it. No registry takes part.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

SUITE = "trixie"
NAME = "localhost/remedy"
BASE = ("base-files", "netbase")
"""Beside what the package depends on: /tmp and its like, the names of protocols."""
_ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64", "ppc64el": "ppc64le", "s390x": "s390x"}
"""Debian's names to Go's, which images use."""
_LEFT_OUT = ("dev/", "usr/share/locale/", "usr/share/man/", "usr/share/info/", "var/cache/",
             "var/lib/apt/", "var/log/", "etc/apt/",
             "etc/hostname", "etc/resolv.conf")  # fmt: skip
"""The last two are those of the machine that builds it."""
_TYPE = "application/vnd.oci.image"


def base(file: Path, package: Path, mirror: Optional[str] = None) -> None:
    """Write what ``package`` depends on as a tar."""
    depends = _field(package, "Depends").split(",")
    names = [word.split()[0].partition(":")[0] for word in depends]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join((*BASE, *names))}",
         SUITE, str(file), *([mirror] if mirror else [])],
        check=True,
    )  # fmt: skip


def build(folder: Path, package: Path, system: Path) -> None:
    """Write the image of ``package`` over ``system``, the tar of :func:`base`, into a folder.

    The same two files make the same image, octet by octet.
    """
    with tempfile.TemporaryDirectory(prefix="remedy-image-") as top:
        root = Path(top) / "root"
        root.mkdir()
        subprocess.run(["tar", "-C", root, "-xf", system, "--exclude=./dev/*"], check=True)
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        time = int(max(path.lstat().st_mtime for path in (root / "usr/bin").glob("remedy")))
        _compile(root)
        layer = _layer(root, time)
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    architecture = _ARCHITECTURES[_said("dpkg", "--print-architecture")]
    version = _field(package, "Version")
    packed = gzip.compress(layer, 6, mtime=0)
    configuration = {
        "created": datetime.fromtimestamp(time, timezone.utc).isoformat(),
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/remedy"],
            "Cmd": ["watch", "--all-netns"],
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "REMEDY_NETNS=host"],
            "Labels": {
                "org.opencontainers.image.title": "remedy",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "GPL-2.0-or-later",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": f"Debian {SUITE} and remedy {version}"}],
    }
    told = {
        "config": _blob(blobs, _json(configuration), f"{_TYPE}.config.v1+json"),
        "layers": [_blob(blobs, packed, f"{_TYPE}.layer.v1.tar+gzip")],
    }
    name = f"{NAME}:{version}"
    manifest = {"schemaVersion": 2, "mediaType": f"{_TYPE}.manifest.v1+json", **told}
    entry = {
        **_blob(blobs, _json(manifest), f"{_TYPE}.manifest.v1+json"),
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {
            "org.opencontainers.image.ref.name": version,
            "io.containerd.image.name": name,
        },
    }
    index = {"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": [entry]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    docker = {
        "Config": _place(told["config"]),
        "RepoTags": [name],
        "Layers": [_place(each) for each in told["layers"]],
    }
    (folder / "manifest.json").write_bytes(_json([docker]))


def _compile(root: Path) -> None:
    """Compile what is imported at every start: a read-only root keeps nothing.

    Bytecode that is never compared with its source has no time in it.
    """
    folders = [f"/{path.relative_to(root)}" for path in root.glob("usr/lib/python3*")]
    subprocess.run(
        ["chroot", root, "python3", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash",
         "-x", "/(asyncio|idlelib|lib2to3|pydoc_data|test|unittest)/", *folders],
        check=True,
        env={"PATH": "/usr/sbin:/usr/bin", "PYTHONHASHSEED": "0"},
    )  # fmt: skip


def _layer(root: Path, time: int) -> bytes:
    """Return a tree as a tar that is the same for the same tree: sorted, of root, no newer."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(_kept(root)):
            entry = archive.gettarinfo(root / path, path)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = min(int(entry.mtime), time)
            if entry.isreg():
                with (root / path).open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    return written.getvalue()


def _kept(root: Path) -> Iterator[str]:
    """Yield the paths that the image gets: no documents but licences, no lists of packages."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.relpath(os.path.join(folder, name), root)
            document = path.startswith("usr/share/doc/") and name in files and name != "copyright"
            if not document and not path.startswith(_LEFT_OUT):
                yield path


def _blob(blobs: Path, content: bytes, kind: str) -> dict[str, Any]:
    """Keep content under its digest; return its descriptor."""
    digest = _digest(content)
    (blobs / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _place(descriptor: dict[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _field(package: Path, name: str) -> str:
    return _said("dpkg-deb", "--field", str(package), name)


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Build it from the command line."""
    folder, package = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="remedy-image-") as top:
        system = Path(top) / "system.tar"
        base(system, package)
        build(folder, package, system)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{folder}: {size / 1e6:.0f} MB\n")


if __name__ == "__main__":
    main()
