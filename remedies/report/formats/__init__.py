"""One file per format of a report, found by name."""
