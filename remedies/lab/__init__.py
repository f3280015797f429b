"""Throw-away network-namespace worlds that hold one fault each; one file per scenario."""

NATS = ("nft", "iptables-nft", "iptables-legacy")
"""The tools that can write a world's NAT rules."""
