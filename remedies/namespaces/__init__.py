"""Network namespaces: entered, found, worked through; and the containers they belong to."""
