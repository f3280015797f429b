"""Coverage-guided fuzzing of every format: ``python atheris_all.py [FORMAT ...] [-runs=N]``.

Options that begin with a dash are libFuzzer's (``-max_total_time=60``, ``-seed=1``). Without
``-runs`` or ``-max_total_time`` it goes on until it is stopped. The first byte of the input
chooses among the formats named, all of them by default. A crash is written to the working folder
as ``crash-HASH``; give that file as an argument to run it again.
"""

from __future__ import annotations

import os
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["remedies"]):
    from fuzz_formats import FORMATS, outcome
    from fuzz_samples import seeds


def main(words: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    wanted = [word for word in words if word in FORMATS] or list(FORMATS)
    rest = [word for word in words if word not in FORMATS]

    def one(data: bytes) -> None:
        if data:
            outcome(wanted[data[0] % len(wanted)], data[1:])

    with tempfile.TemporaryDirectory(prefix="remedy-corpus-") as corpus:
        good = seeds()
        for number, name in enumerate(wanted):
            for index, value in enumerate(good[name]):
                with open(os.path.join(corpus, f"{name}-{index}"), "wb") as file:
                    file.write(bytes([number]) + value)
        folders = [] if any(os.path.exists(word) for word in rest) else [corpus]
        atheris.Setup([sys.argv[0], "-rss_limit_mb=1024", "-timeout=5", *rest, *folders], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
