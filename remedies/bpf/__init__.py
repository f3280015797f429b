"""Programs that the kernel runs for us, by bpf(2) from the standard library alone.

``types`` reads where the running kernel keeps what (BTF), ``code`` puts instructions together,
``kernel`` loads them and reads their maps. Everything is held by descriptors: it is gone when they
are closed, also after SIGKILL, and nothing is pinned.
"""
