"""Find, prove, fix and undo the Linux networking faults that kill container traffic."""

__version__ = "0.1.0"
