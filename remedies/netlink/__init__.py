"""A small netlink client: one socket, checked messages, dumps filtered in the kernel."""
