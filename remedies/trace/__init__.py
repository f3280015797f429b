"""Live proof: what the tap hears, tied to flows, sockets and the kernel's reasons as it happens.

``session`` does the reading, ``meaning`` says what a packet proves given what was read (pure),
``pace`` decides what is told at once, ``tracefs`` and ``reasons`` hold the private tracing
instance, ``holders`` finds the process behind a socket. Nothing but that instance is written; after
SIGKILL it stays, small and bounded, until the next trace removes it.
"""
