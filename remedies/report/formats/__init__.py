"""One file per format of a report, found by name; those here need the standard library alone."""
