"""What root obeys, and where it keeps its state: nobody else's file, and never through a link."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from as_root import needs_root

import remedies.cli.settings
from remedies.cli import main
from remedies.errors import ConfigError, InputError, NotPermitted, RemedyError
from remedies.policy import sources
from remedies.resources import file as file_resource
from remedies.transaction import journal, lock, state, undofile

pytestmark = needs_root
NOBODY = 65534


def foreign(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def group(path: Path) -> None:
    path.chmod(0o620)


def world(path: Path) -> None:
    path.chmod(0o602)


def hard_link(path: Path) -> None:
    os.link(path, path.with_name("second"))


def foreign_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")
    os.lchown(path, NOBODY, NOBODY)


SPOILT = pytest.mark.parametrize("spoil", [foreign, group, world, hard_link, foreign_link])
Spoil = Callable[[Path], None]


@SPOILT
def test_root_applies_no_plan_that_others_can_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Spoil
) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{}")
    folder = str(tmp_path / "state")
    for words in (["apply", str(path), "-y"], ["apply", str(path), "--dry-run"]):
        assert main(["--state-dir", folder, *words]) == 65
        assert "not a plan" in capsys.readouterr().err
    spoil(path)
    for words in (["apply", str(path), "-y"], ["apply", str(path), "--dry-run"]):
        assert main(["--state-dir", folder, *words]) == 65
        said = capsys.readouterr().err
        assert str(path) in said
        assert "not a plan" not in said


@SPOILT
def test_root_obeys_no_policy_that_others_can_write(tmp_path: Path, spoil: Spoil) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("x")
    place = sources.SourcePlace(str(path), "p.yaml", False)
    assert sources.read(place) == b"x"
    spoil(path)
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        sources.read(place)


@SPOILT
def test_root_obeys_no_configuration_that_others_can_write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
) -> None:
    path = tmp_path / "remedy.conf"
    path.write_text("[remedy]\njson = true\n")
    monkeypatch.setattr(remedies.cli.settings, "FILE", str(path))
    assert main(["list"]) == 0
    spoil(path)
    capsys.readouterr()
    assert main(["list"]) == 78
    assert str(path) in capsys.readouterr().err


def test_state_is_roots_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = state.prepare(str(tmp_path / "state"), "host")
        with lock.held(folder, 0), journal.Journal(folder) as opened:
            opened.append("torn", "", {})
        undofile.write(folder, "t1", "#!/bin/sh\n")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.lstat(tmp_path / "state").st_mode) == 0o700
    assert stat.S_IMODE(os.lstat(folder).st_mode) == 0o700
    names = sorted(os.listdir(folder))
    assert names == ["journal.jsonl", "lock", "undo-t1.sh"]
    for name in names:
        found = os.lstat(os.path.join(folder, name))
        assert stat.S_IMODE(found.st_mode) == 0o600, name
        assert found.st_uid == 0


@pytest.mark.parametrize("level", ["root", "namespace"])
@pytest.mark.parametrize("how", ["link", "foreign", "group", "file"])
def test_a_state_folder_that_others_could_have_filled_is_refused(
    tmp_path: Path, level: str, how: str
) -> None:
    root = tmp_path / "state"
    path = root if level == "root" else root / "host"
    path.parent.mkdir(exist_ok=True, mode=0o700)
    if how == "link":
        (tmp_path / "other").mkdir()
        path.symlink_to(tmp_path / "other")
    elif how == "file":
        path.write_text("")
    else:
        path.mkdir(mode=0o700)
        if how == "foreign":
            foreign(path)
        else:
            path.chmod(0o770)
    with pytest.raises(NotPermitted, match=str(path)):
        state.prepare(str(root), "host")


def _opened(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what opens each file of the state folder, by the file's name."""

    def held() -> None:
        with lock.held(str(folder), 0):
            pass

    def appended() -> None:
        with journal.Journal(str(folder)):
            pass

    return {"journal.jsonl": appended, "lock": held}


@pytest.mark.parametrize("name", ["journal.jsonl", "lock"])
@pytest.mark.parametrize("how", ["symbolic", "dangling", "hard"])
def test_a_link_in_the_state_folder_is_not_followed(tmp_path: Path, name: str, how: str) -> None:
    folder, victim = tmp_path / "state", tmp_path / "victim"
    folder.mkdir(mode=0o700)
    if how != "dangling":
        victim.write_text("precious")
    if how == "hard":
        os.link(victim, folder / name)
    else:
        (folder / name).symlink_to(victim)
    with pytest.raises(RemedyError, match=name):
        _opened(folder)[name]()
    assert victim.exists() == (how != "dangling")
    if victim.exists():
        assert victim.read_text() == "precious"


@pytest.mark.parametrize("how", ["link", "hard", "fifo"])
def test_a_journal_that_is_a_link_is_not_read_either(tmp_path: Path, how: str) -> None:
    path = tmp_path / "journal.jsonl"
    if how == "fifo":
        os.mkfifo(path)
    else:
        (tmp_path / "other").write_text("{}\n")
        (path.symlink_to if how == "link" else path.hardlink_to)(tmp_path / "other")
    with pytest.raises(NotPermitted, match="is a link"):
        list(journal.records(str(path)))


def test_an_undo_file_never_replaces_what_is_there(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "undo-t1.sh").symlink_to(victim)
    with pytest.raises(FileExistsError):
        undofile.write(str(tmp_path), "t1", "x")
    assert victim.read_text() == "precious"


PATH = "/etc/sysctl.d/60-remedy.conf"


@pytest.fixture
def drop_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "etc/sysctl.d"
    folder.mkdir(parents=True)
    monkeypatch.setattr(file_resource, "ROOT", str(tmp_path))
    return folder


@pytest.mark.parametrize("how", ["symbolic", "hard", "folder", "writable"])
def test_a_drop_in_that_leads_elsewhere_is_refused(
    tmp_path: Path, drop_ins: Path, how: str
) -> None:
    victim, path = tmp_path / "victim", drop_ins / "60-remedy.conf"
    victim.write_text("precious")
    if how == "symbolic":
        path.symlink_to(victim)
    elif how == "hard":
        os.link(victim, path)
    elif how == "folder":
        drop_ins.rename(tmp_path / "elsewhere")
        drop_ins.symlink_to(tmp_path / "elsewhere")
    else:
        drop_ins.chmod(0o777)
    with pytest.raises(RemedyError):
        file_resource.read(PATH)
    for state_ in ("ours\n", None):
        with pytest.raises(RemedyError):
            file_resource.write(PATH, state_)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    "path",
    ["/etc/shadow", "/etc/sysctl.d/../shadow-remedy", "/etc/sysctl.d/x.conf", "/tmp/remedy",
     "/etc/sysctl.d/sub/remedy.conf", "/etc/sysctl.d/.remedy", "etc/sysctl.d/remedy", ""],
)  # fmt: skip
def test_a_plan_cannot_name_another_file(path: str) -> None:
    with pytest.raises(InputError):
        file_resource.split(path)


def test_a_file_is_made_beside_its_target_and_nothing_is_left(drop_ins: Path) -> None:
    """The temporary file's folder is the target's: seen by the kernel's own trace of the calls."""
    program = (
        "import sys; from remedies.resources import file; file.ROOT = sys.argv[1];"
        f"file.write({PATH!r}, 'ours\\n')"
    )
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", "trace=openat,rename,renameat,renameat2", sys.executable,
         "-c", program, file_resource.ROOT],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    made = [line for line in done.stderr.splitlines() if "O_CREAT" in line and ".pyc" not in line]
    assert len(made) == 1
    assert f"<{drop_ins}>" in made[0]
    assert "O_EXCL" in made[0]
    assert os.listdir(drop_ins) == ["60-remedy.conf"]
