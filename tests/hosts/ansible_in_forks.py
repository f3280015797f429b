"""Ansible's programs in forks of a small process that has loaded Ansible (see :mod:`slim`).

To load it takes longer than most plays of the tests do. Whoever would start ``ansible-playbook``
forks anyhow, and the child becomes it without an exec: its parent, session, terminal and
descriptors are those that it would have. What Ansible reads of its environment and its terminal
while it is loaded is read again. Where there are settings that this does not do for, the program
itself is started.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import forked_cli
import slim
from plays import UNUSED

from remedies.namespaces import netns

LOADS = __name__
BIN = os.path.dirname(sys.executable)
_PROGRAMS = {
    os.path.join(BIN, name): f"ansible.cli.{module}"
    for name, module in (("ansible", "adhoc"), ("ansible-playbook", "playbook"),
                         ("ansible-vault", "vault"))
}  # fmt: skip
_SETTINGS = frozenset(
    f"ANSIBLE_{name}"
    for name in ("NOCOLOR", "FORCE_COLOR", "STDOUT_CALLBACK", "CALLBACK_PLUGINS",
                 "RETRY_FILES_ENABLED", "CACHE_PLUGIN", "CACHE_PLUGIN_CONNECTION")
)  # fmt: skip
"""What ansible-runner and we set for each play. Other settings are read while modules load."""
_PLUGINS = {
    "strategy": ("linear",),
    "connection": ("ssh", "local", "paramiko_ssh", "psrp", "winrm"),
    "shell": ("sh", "cmd", "powershell"),
    "become": ("sudo", "su", "runas"),
    "action": ("normal",),
    "callback": ("default", "junit", "minimal", "tree"),
    "cache": ("jsonfile", "memory"),
    "inventory": ("host_list", "script", "auto", "yaml", "ini", "toml"),
}
"""What every play looks through."""
_exec, _Popen = os.execvpe, subprocess.Popen


def load() -> None:
    """Load the tool, ansible-runner and Ansible, without settings."""
    forked_cli.load()
    importlib.import_module("ansible_runner.interface")
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        del os.environ[name]
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.path.insert(0, UNUSED)
    for program in _PROGRAMS.values():
        importlib.import_module(program)
    plugins = importlib.import_module("ansible.plugins.loader")
    for kind, names in _PLUGINS.items():
        for name in names:
            getattr(plugins, f"{kind}_loader").get(name, class_only=True)
    _know_routing()


def _know_routing() -> None:
    """Read once what each program reads for a tenth of a second: where built-in modules are."""
    finder: Any = importlib.import_module("ansible.utils.collection_loader._collection_finder")
    finder._meta_yml_to_dict = functools.cache(finder._meta_yml_to_dict)
    root = os.path.dirname(importlib.import_module("ansible").__file__ or "")
    with open(os.path.join(root, "config/ansible_builtin_runtime.yml"), "rb") as file:
        finder._meta_yml_to_dict(file.read(), ("ansible.builtin", "runtime.yml"))


def start(
    argv: Sequence[str], net: str | None, folder: str, environment: Mapping[str, str]
) -> forked_cli.Started:
    """Start a program of a controller: in a fork, unless its whole path is said.

    ``net``: the network namespace that it is started in, where that is another one.
    """
    there = netns.inside(net) if net else contextlib.nullcontext()
    if os.path.isabs(argv[0]):
        with there:
            return subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, cwd=folder,
            )  # fmt: skip
    slim.begin(LOADS)  # out here: what is in the controller's namespace ends with the test
    with there:
        return Controller(argv, folder, environment)


def call(
    argv: Sequence[str],
    net: str | None,
    folder: str,
    environment: Mapping[str, str],
    timeout: float,
) -> tuple[int, str, str]:
    """Run a program as :func:`start` does; return its exit code and what it said.

    Raises subprocess.TimeoutExpired.
    """
    with start(argv, net, folder, environment) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:  # whom an exception ends, nobody waits for
            process.kill()
            raise
    return process.wait(timeout), out.decode(), err.decode()


class Controller(forked_cli.Piped):
    """A program of the controller's that is in a fork: ``remedy``, or one of Ansible's."""

    def __init__(self, argv: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
        name, *words = argv
        if name == "remedy":
            be = forked_cli.command(words, folder, environment, prepare)
        else:
            be = functools.partial(_program, [*argv], folder, dict(environment))
        self._begin([*argv], be, LOADS)


def _program(argv: list[str], folder: str, environment: dict[str, str], *files: int) -> NoReturn:
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
        os.dup2(file, number)
    forked_cli.begin(folder, environment)
    _become(os.path.join(BIN, argv[0]), argv, environment)


def prepare() -> None:
    """Let this process, a fork of the small one, start Ansible's programs in forks."""
    os.execvpe = _become  # type: ignore[assignment]  # by which ansible-runner's terminal begins it
    subprocess.Popen = _Program  # type: ignore[assignment,misc]


class _Program(subprocess.Popen[Any]):
    """A program; one of Ansible's is not begun by an exec but by a call."""

    def __init__(self, args: Sequence[str], **options: Any) -> None:
        command = shutil.which(args[0], path=(options.get("env") or os.environ).get("PATH"))
        if command in _PROGRAMS:
            options["preexec_fn"] = functools.partial(_begin, command, args, options["env"])
        super().__init__(args, **options)


def _begin(command: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    if _as_loaded(environment):
        _be(command, argv, environment)


def _become(
    command: str | bytes, argv: Sequence[str | bytes], environment: Mapping[Any, Any]
) -> NoReturn:
    program, words = os.fsdecode(command), [os.fsdecode(word) for word in argv]
    names = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
    if program in _PROGRAMS and _as_loaded(names):
        _be(program, words, names)
    _exec(command, [*argv], environment)


def _as_loaded(environment: Mapping[str, str]) -> bool:
    names = {name for name in environment if name.startswith("ANSIBLE_")}
    places = (os.getcwd(), environment.get("HOME", "/"), "/etc/ansible")
    return names <= _SETTINGS and not any(
        os.path.exists(os.path.join(place, name))
        for place in places
        for name in ("ansible.cfg", ".ansible.cfg")
    )


def _be(command: str, argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Be one of Ansible's programs from here on."""
    code: object = 99
    try:
        # Closed, too, is what says that an exec has been done.
        forked_cli.begin(os.getcwd(), environment)
        atexit._clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execvpe, subprocess.Popen = _exec, _Popen  # type: ignore[misc]
        sys.argv = [command, *argv[1:]]
        sys.stdin, sys.stdout, sys.stderr = map(forked_cli.standard, range(3))
        _read_settings()
        gc.enable()
        importlib.import_module(_PROGRAMS[command]).main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _read_settings() -> None:
    """Read what Ansible reads of its environment and its terminal while it is loaded."""
    constants: Any = importlib.import_module("ansible.constants")
    for name in constants.config.get_configuration_definitions():
        value = constants.config.get_config_value(name, variables=vars(constants))
        constants.set_constant(name, value)
    constants.DEFAULT_INTERNAL_POLL_INTERVAL = 0.01  # 0.001: for hundreds of hosts
    plugins = importlib.import_module("ansible.plugins.loader")
    for place in filter(None, os.environ.get("ANSIBLE_CALLBACK_PLUGINS", "").split(os.pathsep)):
        plugins.callback_loader.add_directory(place)
    importlib.reload(importlib.import_module("ansible.utils.color"))
    importlib.import_module("ansible.utils.display").Display().__init__()  # there is only one
