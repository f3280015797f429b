"""What bash, zsh and fish offer who presses the tab key, by a completion script of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

SHELLS = ("bash", "zsh", "fish")

BIN = os.path.dirname(sys.executable)
"""Where the tool is installed, which need not be on the path of who runs the tests."""
_BASH = """\
source "$SCRIPT"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_remedy remedy "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
_FISH = """\
source "$SCRIPT"
complete -C (string join -- ' ' (string escape -- $argv[1..-2]) (string escape -n -- $argv[-1]))
"""
# zsh completes in its line editor alone: one on a terminal of its own, which ends by itself.
_ZSH = """\
zmodload zsh/zpty
line="${(j: :)${(q)@[1,-2]}} "
[[ -n $@[-1] ]] && line+=${(q)@[-1]}
zpty shell zsh -f -i
zpty -w shell "PS1= PS2=; source $SETUP"
zpty -w -n shell "$line"$'\\t'
while zpty -r shell said; do :; done
"""
_IN_ZSH = """\
autoload -Uz compinit; compinit -u -C -d "$KNOWN"
source "$SCRIPT"; compdef _shtab_remedy remedy
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
compadd() {
  if [[ " $* " != *' -'[OAD]' '* ]]; then  # else it adds nothing, and may be done but once
    local -a hits; builtin compadd -A hits "$@"
    (( $#hits )) && print -rl -- "${hits[@]}" >> "$OUT"
  fi
  builtin compadd "$@"
}
done-now() { exit }
comppostfuncs=(done-now)
"""


def press(
    shell: str,
    script: str,
    words: list[str],
    *,
    folder: Path,
    cwd: Optional[Path] = None,
    env: Optional[Mapping[str, str]] = None,
) -> list[str]:
    """Return what is offered after these words, the last one being typed.

    ``folder`` is where the scripts are kept; the shell works in ``cwd``. Raises AssertionError
    where the shell complains.
    """
    paths = {name: str(folder / name) for name in ("SCRIPT", "SETUP", "OUT")}
    paths["KNOWN"] = str(folder.parent / "zcompdump")
    Path(paths["SCRIPT"]).write_text(script)
    Path(paths["SETUP"]).write_text(_IN_ZSH)
    Path(paths["OUT"]).write_text("")
    argv = {
        "bash": ["bash", "-c", _BASH, "bash"],
        "fish": ["fish", "--no-config", "-c", _FISH],
        "zsh": ["zsh", "-f", "-c", _ZSH, "zsh"],
    }[shell]
    done = subprocess.run(
        [*argv, *words], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=30, check=False,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb",
             "HOME": str(folder), "REMEDY_STATE_DIR": os.environ["REMEDY_STATE_DIR"],
             **paths, **(env or {})},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), (shell, words, done)
    told = Path(paths["OUT"]).read_text() if shell == "zsh" else done.stdout
    return [line.partition("\t")[0] for line in told.splitlines()]
