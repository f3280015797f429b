"""Loading: the cache, whom root trusts, and what the fast path imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from as_root import needs_root

import remedies
from remedies import codec, policy
from remedies.errors import ConfigError
from remedies.policy import cache, sources

TEXT = "apiVersion: remedy/v1\nname: mine\nextends: default\npersist: %s\n"
HEAVY = ("yaml", "pydantic", "pydantic_core", "jinja2", "rich", "ansible_runner", "iptc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a policy file that root may obey."""
    path = tmp_path / "p.yaml"
    path.write_text(TEXT % "true")
    path.chmod(0o600)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a cache folder that is not there yet."""
    return tmp_path / "state" / "cache"


def entries(folder: Path) -> list[Path]:
    return list(folder.glob("*")) if folder.exists() else []


def test_a_hit_says_what_compiling_said(file: Path, folder: Path) -> None:
    fresh = policy.load((str(file),), str(folder))
    (entry,) = entries(folder)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.read(str(folder), (str(file),)) == fresh
    assert policy.load((str(file),), str(folder)) == fresh


def test_a_hit_imports_neither_yaml_nor_pydantic(file: Path, folder: Path) -> None:
    policy.load((str(file),), str(folder))
    program = (
        "import sys; from remedies import policy; policy.load((sys.argv[1],), sys.argv[2]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_newest_entries_are_kept_and_no_other_file_is_touched(
    file: Path, folder: Path, tmp_path: Path
) -> None:
    """A policy under another name each time, as a job of a pipeline has it."""
    for number in range(40):
        copy = tmp_path / f"{number}.yaml"
        copy.write_bytes(file.read_bytes())
        policy.load((str(copy),), str(folder))
        (folder / "kernel-types.json").touch()
    assert len(list(folder.iterdir())) == 16 + 1
    assert cache.read(str(folder), (str(tmp_path / "39.yaml"),)) is not None
    assert cache.read(str(folder), (str(tmp_path / "23.yaml"),)) is None


def test_no_cache_folder_means_no_cache(file: Path, tmp_path: Path) -> None:
    assert policy.load((str(file),)).persist
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.parametrize("moved", ["source", "parent", "version", "catalogue"])
def test_whatever_a_policy_was_compiled_from_makes_a_miss(
    file: Path, folder: Path, moved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = file.with_name("base.yaml")
    parent.write_text(TEXT % "false")
    parent.chmod(0o600)
    file.write_text((TEXT % "true").replace("default", "base.yaml"))
    policy.load((str(file),), str(folder))
    if moved == "source":
        file.write_text(file.read_text().replace("persist: true", "persist: false"))
    elif moved == "parent":
        parent.write_text(parent.read_text() + "# more\n")
    elif moved == "version":
        monkeypatch.setattr(remedies, "__version__", "999")
    else:
        monkeypatch.setattr(cache, "catalogue", lambda: "another")
    assert cache.read(str(folder), (str(file),)) is None
    assert policy.load((str(file),), str(folder)).persist is (moved != "source")
    assert cache.read(str(folder), (str(file),)) is not None


def test_an_entry_is_only_for_its_own_sources(file: Path, folder: Path) -> None:
    policy.load((str(file),), str(folder))
    assert cache.read(str(folder), (str(file), "default")) is None
    assert cache.read(str(folder), ("default",)) is None


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100000, b'{"format": 1}']
)
def test_a_broken_entry_is_a_miss_and_is_replaced(file: Path, folder: Path, garbage: bytes) -> None:
    fresh = policy.load((str(file),), str(folder))
    (entry,) = entries(folder)
    entry.write_bytes(garbage)
    assert policy.load((str(file),), str(folder)) == fresh
    assert cache.read(str(folder), (str(file),)) == fresh


def test_an_entry_with_a_wrong_type_inside_is_a_miss(file: Path, folder: Path) -> None:
    policy.load((str(file),), str(folder))
    (entry,) = entries(folder)
    plain = json.loads(entry.read_text())
    plain["policy"]["persist"] = "no"
    entry.write_text(json.dumps(plain))
    assert cache.read(str(folder), (str(file),)) is None


def test_a_source_that_went_away_is_an_error_not_a_hit(file: Path, folder: Path) -> None:
    policy.load((str(file),), str(folder))
    file.unlink()
    with pytest.raises(ConfigError, match=r"no such policy file; check the path"):
        policy.load((str(file),), str(folder))


def test_a_folder_or_entry_that_others_may_write_is_not_used(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert policy.load((str(file),), str(folder)).persist
    assert entries(folder) == []
    folder.chmod(0o700)
    policy.load((str(file),), str(folder))
    (entry,) = entries(folder)
    entry.chmod(0o666)
    assert cache.read(str(folder), (str(file),)) is None


def test_a_link_in_place_of_folder_or_entry_is_not_followed(
    file: Path, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    policy.load((str(file),), str(folder))
    assert entries(elsewhere) == []
    folder.unlink()
    policy.load((str(file),), str(folder))
    (entry,) = entries(folder)
    kept = tmp_path / "kept.json"
    entry.rename(kept)
    entry.symlink_to(kept)
    assert cache.read(str(folder), (str(file),)) is None


@needs_root
def test_root_obeys_no_policy_that_others_may_write(file: Path, folder: Path) -> None:
    policy.load((str(file),), str(folder))
    for mode in (0o620, 0o602, 0o666):
        file.chmod(mode)
        with pytest.raises(ConfigError, match=f"mode 0{mode:o} lets others write .*chmod go-w"):
            policy.load((str(file),), str(folder))
    file.chmod(0o600)
    os.chown(file, 65534, 65534)
    with pytest.raises(ConfigError, match=r"owned by user 65534.*chown root"):
        policy.load((str(file),), str(folder))
    child = file.with_name("child.yaml")
    child.write_text("apiVersion: remedy/v1\nname: child\nextends: p.yaml\n")
    child.chmod(0o600)
    with pytest.raises(ConfigError, match=r"p\.yaml: owned by user 65534"):
        policy.load((str(child),))


def test_what_is_not_a_short_regular_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe, 0o600)
    long = tmp_path / "long.yaml"
    long.write_bytes(b"#" * (sources.MAX_BYTES + 1))
    long.chmod(0o600)
    for path, message in (
        (pipe, "not a regular file"),
        (tmp_path, "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (long, "larger than 1 MiB"),
    ):
        with pytest.raises(ConfigError, match=message):
            policy.load((str(path),))


def test_a_name_that_is_nothing_gets_a_guess() -> None:
    with pytest.raises(ConfigError) as caught:
        policy.load(("kubernetes_node",))
    assert str(caught.value) == (
        "kubernetes_node: neither a shipped policy nor a file; did you mean 'kubernetes-node'?"
    )


def test_a_compiled_policy_survives_the_codec(file: Path) -> None:
    loaded = policy.load((str(file),))
    plain = json.loads(json.dumps(codec.encode(loaded)))
    assert codec.decode(type(loaded), plain, "here") == loaded
