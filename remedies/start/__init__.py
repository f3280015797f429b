"""What runs on a host before anything of the tool is imported."""
