"""Many hosts: the single-file host tool, the talk with one host, and rollouts by Ansible.

Control side (Python 3.11+), but for ``host_check``, ``host_main`` and ``host_launch``: their text
runs on the hosts, and whatever Python is there has to understand it.
"""
