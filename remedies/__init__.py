"""Find, prove, fix and undo the Linux networking faults that kill container traffic."""

__version__ = "0.1.0"

HOME = "https://remedies.invalid"
"""What identifiers in documents begin with. The project has no public address yet, and nothing
resolves there (.invalid, RFC 2606); it changes here alone."""
