"""What a controller runs on a host: ``python3 -c TEXT DIGEST FOLDER SIZE WORD...``.

TEXT is that of ``check.py`` and this. With SIZE, as many bytes of standard input are the bundle:
they are kept as FOLDER/DIGEST.pyz if they have that digest (BLAKE2b, 256 bits). Without, that file
has to be there; exit code 86 asks for it. What is left of standard input is remedy's. The first
line printed is ``remedy DIGEST``: what comes before it is the noise of the host's login scripts.
What runs is made of it once and kept beside it, with bytecode of this Python and no sources:
FOLDER/DIGEST.pyz.MAGIC.CRC, after MAGIC of its bytecode and its own CRC-32. That tells damage, a
fifth as dear as a digest; who may write there, and only that user may, could name any file anew.

Python 3.6 must be able to read this, for ``check.py`` to be heard.
"""

import os
import stat
import sys
import time
from binascii import crc32
from contextlib import suppress
from importlib.util import MAGIC_NUMBER as MAGIC
from typing import BinaryIO, Optional

try:
    from _blake2 import blake2b
except ImportError:
    # Not at once: hashlib loads OpenSSL first, and that takes longer than this digest.
    from hashlib import blake2b

WANTED = 86
BYTES = 32
"""Of a digest."""
KEPT_FOR = 7 * 86400
"""Seconds after which a bundle goes that was not used; a guard that runs from one lives a day."""


class Refused(Exception):
    """One line that says why remedy is not run."""


def private(found: os.stat_result, right_kind: bool) -> bool:
    """Tell whether this is of the right kind, and nobody else's to write."""
    return right_kind and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def prepare(folder: str) -> None:
    """Make FOLDER and the one above it, both 0700; raise Refused where others may write there."""
    for part in (os.path.dirname(folder), folder):
        os.makedirs(part, mode=0o700, exist_ok=True)
        found = os.lstat(part)
        if not private(found, stat.S_ISDIR(found.st_mode)):
            raise Refused(f"{part} must be your own directory (no link), writable by nobody else")


def receive(path: str, digest: str, size: int) -> None:
    """Take the bundle from standard input and keep it; what was not used for long goes."""
    data = sys.stdin.buffer.read(size)
    if hashed(data) != digest:
        raise Refused(f"the bundle arrived damaged ({len(data)} of {size} bytes); try again")
    keep(path, data)
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        other = os.path.join(folder, name)
        try:
            if time.time() - os.lstat(other).st_mtime > KEPT_FOR:
                os.unlink(other)
        except FileNotFoundError:  # another process is doing the same
            pass


def hashed(data: bytes) -> str:
    """Return the digest of data."""
    return blake2b(data, digest_size=BYTES).hexdigest()


def keep(path: str, data: bytes) -> None:
    """Write a file, whole or not at all; raise OSError."""
    draft = f"{path}.{os.getpid()}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        if os.path.lexists(draft):
            os.unlink(draft)


def opened(path: str) -> Optional[BinaryIO]:
    """Open a private file, None where there is none; note that it is used."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    found = os.fstat(number)
    if not private(found, stat.S_ISREG(found.st_mode)):
        os.close(number)
        return None
    os.utime(number)
    return os.fdopen(number, "rb", buffering=0)


def holds(path: str, digest: str) -> bool:
    """Tell whether there is a private file with this digest."""
    file = opened(path)
    if file is None:
        return False
    with file:
        return hashed(file.read()) == digest


def undamaged(path: str) -> bool:
    """Tell whether there is a private file with the CRC that ends its name."""
    file = opened(path)
    if file is None:
        return False
    found = 0
    with file:
        for part in iter(lambda: file.read(65536), b""):  # whole, it would cost 700 page faults
            found = crc32(part, found)
    return path.endswith(f".{found:08x}")


def start(digest: str, folder: str, size: int, *words: str) -> int:
    """Run remedy from the bundle; return its exit code. Raises Refused."""
    folder = os.path.expanduser(folder)
    path = os.path.join(folder, digest + ".pyz")
    try:
        prepare(folder)
        if size:
            receive(path, digest, size)
        own = of_this_python(path) if os.path.exists(path) else ""
        if own:
            os.utime(path)  # used as long as what was made of it
        elif not holds(path, digest):
            return WANTED
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror}; fix that") from error
    sys.stdout.write(f"remedy {digest}\n")
    sys.stdout.flush()
    sys.argv = [path, *words]
    sys.path.insert(0, own or path)
    if not own:
        from remedies.bundle import archive

        data = archive.of_this_python(path)
        with suppress(OSError):  # where it cannot be kept, every run makes it again
            keep(f"{path}.{MAGIC.hex()}.{crc32(data):08x}", data)

    from remedies.cli import main

    return main()


def of_this_python(path: str) -> str:
    """Return what was made of the bundle at PATH for this Python and is kept; "" for nothing."""
    folder, name = os.path.split(f"{path}.{MAGIC.hex()}.")
    for other in os.listdir(folder):
        kept = os.path.join(folder, other)
        if other.startswith(name) and undamaged(kept):
            return kept
    return ""


if __name__ == "__main__":
    try:
        code = start(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
    except Refused as refused:
        sys.stderr.write(f"remedy: {refused}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the kernel takes down in no time what Python would take apart in 4 ms
