"""The single-file host tool, on whatever Python this machine has, with nothing beside it."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from remedies import catalogue, policy
from remedies.bundle import archive, build, contents
from remedies.errors import InputError

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "remedy.pyz"
    path.write_bytes(build.build())
    return path


def run(pyz: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the bundle isolated: no site packages, no environment, no current folder."""
    return subprocess.run(
        [PYTHON, "-I", "-S", str(pyz), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=pyz.parent,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )


def test_the_same_sources_make_the_same_bytes(pyz: Path) -> None:
    again = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom remedies.bundle import build\n"
         "sys.stdout.buffer.write(build.build())"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert again.stdout == pyz.read_bytes()
    with zipfile.ZipFile(pyz) as archive:
        entries = archive.infolist()
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_no_path_of_this_machine_is_in_it(pyz: Path) -> None:
    root = str(Path(build.__file__).parents[2]).encode()
    assert root not in pyz.read_bytes()


def test_conditions_and_fixes_are_found_inside_the_zip(pyz: Path) -> None:
    done = run(pyz, "list", "--json")
    assert done.returncode == 0, done.stderr
    for name in (*catalogue.condition_ids(), *catalogue.fix_ids()):
        assert f'"{name}"' in done.stdout
    done = run(pyz, "explain", catalogue.condition_ids()[0])
    assert done.returncode == 0, done.stderr
    assert "What it detects" in done.stdout


def test_a_host_makes_its_own_record_and_knows_no_rollouts(pyz: Path) -> None:
    words = ("--policy", "observe-only", "--window", "0", "--state-dir", "state")
    done = run(pyz, "report", *words, "--json")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert (plain["kind"], len(plain["hosts"])) == ("report", 1)
    assert plain["hosts"][0]["place"]["distribution"]
    for form in ("markdown", "csv", "jsonl", "nagios", "sarif"):
        done = run(pyz, "report", *words, "-o", f"{form}:-")
        assert done.returncode == 0, done.stderr
        assert done.stdout
    for wrong in (("report", "--fleet", "x"), ("audit", "verify", "--fleet", "x", "--host", "h")):
        done = run(pyz, *wrong)
        assert done.returncode == 64
        assert "the single-file tool has no rollouts" in done.stderr
    done = run(pyz, "report", "-o", "html:-")
    assert done.returncode == 64
    assert "no report format 'html'" in done.stderr


def test_it_runs_from_its_own_folder_by_a_relative_name(pyz: Path) -> None:
    before = sorted(pyz.parent.iterdir())
    done = subprocess.run(
        [PYTHON, pyz.name, "scan", "--window", "0", "--state-dir", "state", "--policy",
         "observe-only", "--json"],
        capture_output=True, text=True, timeout=30, check=False, cwd=pyz.parent,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    assert json.loads(done.stdout)["kind"] == "scan"
    assert sorted(pyz.parent.iterdir()) == before, "it wrote something beside itself"


def test_a_policy_travels_on_standard_input(pyz: Path) -> None:
    text = policy.to_compiled(policy.load(("voip-gateway",)))
    words = ("plan", "--policy", "-", "--window", "0", "--state-dir", "state", "--json")
    done = run(pyz, *words, stdin=text)
    assert done.returncode in (0, 8), done.stderr
    assert json.loads(done.stdout)["policy"]["names"] == ["voip-gateway"]
    newer = text.replace('"tool":"', '"tool":"9')
    for wrong, said in (
        ("", "a JSON document"), ("{}", "not a compiled policy"), (newer, "the same version"),
    ):  # fmt: skip
        done = run(pyz, *words, stdin=wrong)
        assert done.returncode == 65
        assert said in done.stderr


def test_a_compiled_policy_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    whole = policy.load(("nat-gateway",))
    path.write_text(policy.to_compiled(whole))
    path.chmod(0o600)
    assert policy.load((str(path),)) == whole
    path.write_text('{"policy": {}}')
    with pytest.raises(InputError, match="not a compiled policy"):
        policy.load((str(path),))


def test_verbs_of_the_control_side_are_not_in_it(pyz: Path) -> None:
    done = run(pyz, "fleet", "plan")
    assert (done.returncode, done.stdout) == (64, "")
    assert "the single-file tool has no verb 'fleet'" in done.stderr
    shown = run(pyz, "--help").stdout
    assert "rollback" in shown
    for verb in ("fleet", "lab"):
        assert verb not in shown


def start(text: str, before: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the text of a start file on a Python that ``before`` has made another one."""
    code = f"import sys\n{before}\nexec(compile(sys.argv.pop(1), 'start', 'exec'))"
    return subprocess.run(
        [PYTHON, "-I", "-S", "-c", code, text, *words],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["main", "launch"])
def test_a_python_that_cannot_run_it_says_so_in_one_line(name: str) -> None:
    text = build.start_text(name)
    old = start(text, "sys.version_info = (3, 6, 9)")
    assert (old.returncode, old.stdout, old.stderr.count("\n")) == (1, "", 1)
    assert "is Python 3.6, and remedy needs 3.9 or newer" in old.stderr
    for before, missing in (
        ("sys.modules['json'] = None", "json"),
        ("import importlib.util as u; u.find_spec = lambda name: None", "ctypes"),
    ):
        minimal = start(text, before)
        assert (minimal.returncode, minimal.stdout, minimal.stderr.count("\n")) == (1, "", 1)
        assert f"not complete (no {missing})" in minimal.stderr
        assert "apt install python3" in minimal.stderr


def test_the_start_files_can_be_read_by_old_pythons() -> None:
    ast.parse(build.start_text("launch"), feature_version=(3, 6))
    tree = ast.parse(build.start_text("main"), feature_version=(3, 4))
    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        assert not isinstance(node, new), "Python 2.7 cannot read this"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__"


def launch(
    data: bytes, digest: str, folder: Path, size: int, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*before, PYTHON, "-I", "-S", "-c", build.start_text("launch"), digest, str(folder),
         str(size), "list", "--json"],
        input=data, capture_output=True, timeout=30, check=False,
    )  # fmt: skip


def test_a_host_keeps_the_bundle_and_checks_it_before_use(pyz: Path, tmp_path: Path) -> None:
    data = pyz.read_bytes()
    digest, folder = build.digest(data), tmp_path / "state" / "bundle"
    assert launch(b"\n", digest, folder, 0).returncode == 86
    done = launch(data, digest, folder, len(data))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"remedy {digest}\n".encode())
    kept = folder / f"{digest}.pyz"
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    assert launch(b"\n", digest, folder, 0).returncode == 0

    for altered in folder.iterdir():
        altered.write_bytes(altered.read_bytes() + b"x")
    assert launch(b"\n", digest, folder, 0).returncode == 86, "altered, and used"
    kept.unlink()
    assert launch(b"\n", digest, folder, 0).returncode == 86, "there is none"
    damaged = launch(data[:-5], digest, folder, len(data))
    assert damaged.returncode == 1
    assert b"arrived damaged" in damaged.stderr
    folder.chmod(0o777)
    refused = launch(data, digest, folder, len(data))
    assert refused.returncode == 1
    assert b"writable by nobody else" in refused.stderr
    assert not kept.exists()


def for_another_python(data: bytes) -> bytes:
    """Return the bundle as if another Python had built it."""
    return rewritten(data, lambda name, old: b"\xff" * 4 + old[4:] if name[-1] == "c" else old)


def rewritten(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Return the bundle with some files changed."""
    made = io.BytesIO(archive.SHEBANG)
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "a") as new:
        for entry in old.infolist():
            kept = change(entry.filename, old.read(entry))
            new.writestr(entry, kept)
    return made.getvalue()


@pytest.mark.parametrize("other", [False, True])
def test_what_a_host_runs_is_made_once_and_checked_before_use(
    pyz: Path, tmp_path: Path, other: bool
) -> None:
    data = for_another_python(pyz.read_bytes()) if other else pyz.read_bytes()
    digest, folder = build.digest(data), tmp_path / "state" / "bundle"
    first = launch(data, digest, folder, len(data))
    assert first.returncode == 0, first.stderr
    [made] = (path for path in folder.iterdir() if path.suffix != ".pyz")
    whole = made.read_bytes()
    assert made.name == f"{digest}.pyz.{MAGIC_NUMBER.hex()}.{zlib.crc32(whole):08x}"
    assert made.stat().st_mode & 0o777 == 0o600
    before = made.stat()
    with zipfile.ZipFile(made) as own:
        assert [name for name in own.namelist() if name.endswith(".py")] == ["__main__.py"]
    assert len(whole) < 0.65 * len(data), "what every run reads"
    kept = folder / f"{digest}.pyz"
    os.utime(kept, (0, 0))

    assert launch(b"\n", digest, folder, 0).stdout == first.stdout
    assert made.stat().st_ino == before.st_ino, "made again"
    assert kept.stat().st_mtime > 0, "it would go as one that nobody uses"
    for spoil in (lambda: made.write_bytes(b"x" + whole[1:]), lambda: made.chmod(0o666)):
        spoil()
        assert launch(b"\n", digest, folder, 0).stdout == first.stdout
        assert made.read_bytes() == whole
        assert made.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{digest}.pyz", made.name])


def test_a_host_that_cannot_keep_bytecode_runs_all_the_same(pyz: Path, tmp_path: Path) -> None:
    data = for_another_python(pyz.read_bytes())
    digest, folder = build.digest(data), tmp_path / "bundle"
    folder.mkdir(mode=0o700)
    kept = folder / f"{digest}.pyz"
    kept.touch(mode=0o600)
    kept.write_bytes(data)
    full = launch(b"\n", digest, folder, 0, before=("prlimit", "--fsize=100000"))
    assert full.returncode == 0, full.stderr
    assert full.stdout.startswith(b"remedy ")
    assert [*folder.iterdir()] == [kept]


def inside(pyz: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports from the bundle as the bundle itself does."""
    start = "import sys; sys.path.insert(0, sys.argv[1])\n"
    return subprocess.run([PYTHON, "-I", "-S", "-c", start + code, str(pyz)],
                          capture_output=True, text=True, timeout=30, check=False)  # fmt: skip


@pytest.mark.parametrize("other", [False, True])
def test_modules_come_from_the_bytecode(pyz: Path, tmp_path: Path, other: bool) -> None:
    """Sources that cannot be compiled are never looked at, but by another Python."""
    path = tmp_path / "remedy.pyz"
    data = for_another_python(pyz.read_bytes()) if other else pyz.read_bytes()
    path.write_bytes(rewritten(data, lambda name, old: b"?" if name.endswith("model.py") else old))
    done = inside(
        path,
        "import remedies.cli.plan, nftables; from remedies import catalogue, model, shipped\n"
        "print(model.__file__[len(sys.argv[1]):], catalogue.fix_ids() != (), "
        "shipped.compiled('default') is not None)",
    )
    assert ("SyntaxError" in done.stderr) == other
    assert done.stdout == ("" if other else "/remedies/model.pyc True True\n")
    assert [p.name for p in tmp_path.iterdir()] == ["remedy.pyz"], "it wrote something"


def test_a_plan_loads_nothing_that_takes_long_to_load(pyz: Path) -> None:
    """hashlib brings OpenSSL, pathlib what URLs are made of."""
    done = inside(
        pyz,
        "from remedies import catalogue, model; from remedies.cli import parser\n"
        "parser.parse(['plan', '--window', '0s', '--json'])\n"
        "import remedies.cli.starting, remedies.operations.weigh, remedies.cli.render\n"
        "[catalogue.condition(c).NEEDS for c in catalogue.condition_ids()]\n"
        "[catalogue.fix(f).NEEDS for f in catalogue.fix_ids()]\n"
        "model.digest([]); print(*sys.modules)",
    )
    assert done.stderr == ""
    loaded = set(done.stdout.split())
    assert "remedies.operations.session" in loaded
    slow = {"ctypes", "dataclasses", "hashlib", "inspect", "ipaddress", "pathlib", "subprocess"}
    assert not loaded & slow


def test_many_workers_build_one_bundle(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom remedies.bundle import build\nmake = build.build\n"
        "build.build = lambda: (print('built'), make())[1]\nbuild.cached(sys.argv[1])"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    workers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(worker.communicate(timeout=60)[0] for worker in workers) == ["", "", "built\n"]


def test_only_a_file_with_a_digest_for_its_name_is_a_kept_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", lambda: b"a bundle")
    shelf = tmp_path / "key"
    shelf.mkdir()
    (shelf / "another.pyz").write_bytes(b"of another program")
    path, digest = build.cached(str(tmp_path), "key")
    assert (digest, Path(path).name) == (build.digest(b"a bundle"), f"{digest}.pyz")
    assert build.cached(str(tmp_path), "key") == (path, digest)


def test_a_link_in_the_way_is_refused(pyz: Path, tmp_path: Path) -> None:
    digest = build.digest(pyz.read_bytes())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "bundle").symlink_to(tmp_path / "elsewhere")
    done = launch(b"\n", digest, tmp_path / "bundle", 0)
    assert done.returncode == 1
    assert b"no link" in done.stderr


def test_the_bundle_is_the_host_side_and_nothing_else(pyz: Path) -> None:
    package = str(Path(build.__file__).parents[1])
    with zipfile.ZipFile(pyz) as archive:
        names = set(archive.namelist())
    sources = {name for name in names if name.endswith(".py")}
    host = {f"remedies/{name}" for name in contents.bundled(package)}
    assert sources == host | {"__main__.py", "nftables.py"}
    assert not any("/lab/" in name or "/templates/" in name for name in names)
    assert "remedies/shipped_data/compiled/default.json" in names


def test_what_its_modules_import_at_the_top_is_in_it(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        sources = {n: archive.read(n) for n in archive.namelist() if n.endswith(".py")}
    missing = {
        (name, module)
        for name, source in sources.items()
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom)
        for module in [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        if module.startswith("remedies.")
        and os.path.exists(_file(module))
        and os.path.relpath(_file(module), _file("")) not in sources
    }
    # Completion comes with the installed tool.
    assert {name for name, _ in missing} <= {"remedies/cli/completion_names.py"}, missing


def _file(module: str) -> str:
    """Return the file of a module of the checkout; the folder that it is in for ``""``."""
    path = os.path.join(os.path.dirname(str(Path(build.__file__).parents[1])), *module.split("."))
    return (
        os.path.join(path, "__init__.py")
        if module and os.path.isdir(path)
        else (f"{path}.py" if module else path)
    )
