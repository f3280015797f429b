"""What is in force, whether it does harm, and what this host allows."""
