"""Firewall rules as values: matched, compared, rendered; ours and everybody else's. Pure."""
