"""Many hosts: the talk with one host, and rollouts by Ansible. Control side (Python 3.11+)."""
