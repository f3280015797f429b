"""What rules mean: packets they match, what they do to them, and whether two can meet."""
