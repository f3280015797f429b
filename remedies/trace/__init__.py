"""Live proof: what the tap hears, tied to flows, sockets and the kernel's reasons as it happens.

``session`` does the reading, ``explain`` says what a packet proves given what was read (pure),
``answers`` pairs refused UDP answers with their requests, those of ``requests_heard`` where
conntrack has none, ``rate_limit`` decides what is told at once, ``tracefs`` and ``reasons`` hold
the private tracing instance, ``socket_owners`` finds the process behind a socket. Nothing but that
instance is written, and the kernel's types into the folder of the state directory that only saves
time; after SIGKILL the instance stays, small and bounded, until the next trace removes it.
"""
