"""What is in force, whether it does what it should, and what this host allows."""
