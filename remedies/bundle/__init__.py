"""The tool as a single file that a host runs: what belongs in it, and how it is built."""
