"""Formats that need a library: of the control side."""
