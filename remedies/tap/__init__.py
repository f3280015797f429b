"""The packet tap: resets, refusals and SYN retries of this namespace, heard without writing.

``program`` is the filter that runs in the kernel, ``packets`` the bytes it lets through, ``ring``
the socket they come by, ``tally`` counts them in bounded memory, ``origin`` tells what was made
here from what is merely passing through, and ``listener`` puts these together. ``scan`` hears it
through the fact :mod:`remedies.facts.tap`, ``trace`` through :mod:`remedies.trace`.
"""
