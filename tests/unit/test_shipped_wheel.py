"""The wheel: built from the tree, installed elsewhere, everything found in it."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import remedies

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(remedies.__file__)))

PROGRAM = """
import sys
from remedies import codec, policy, shipped
loaded = policy.load(("default",))
assert not {"yaml", "pydantic", "pkgutil"} & set(sys.modules), sorted(sys.modules)
print(codec.dumps(loaded))
for kind in shipped.KINDS:
    assert shipped.folder(kind).startswith(sys.prefix), shipped.folder(kind)
assert all(shipped.compiled(name) for name in shipped.policies())
"""


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_wheel_has_its_policies_compiled_and_its_playbooks(tmp_path: Path) -> None:
    here = sys.executable
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "wheels")
    run(here, *build, ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").iterdir()
    run(here, "-m", "twine", "check", "--strict", str(wheel), cwd=tmp_path)
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    target = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).strip()
    install = ("-m", "pip", "install", "-q", "--no-deps", "--target", target)
    run(here, *install, str(wheel), cwd=tmp_path)
    compiled = run(python, "-c", PROGRAM, cwd=tmp_path)
    checkout = "from remedies import codec, policy; print(codec.dumps(policy.load()))"
    assert compiled == run(here, "-c", checkout, cwd=tmp_path)
    assert (Path(target) / "remedies/shipped_data/playbooks/apply.yml").is_file()
    assert (Path(target) / "remedies/shipped_data/monitoring/alerts.yml").is_file()
