"""What is loaded at the next boot: which file decides a key, and the units that load our rules."""
