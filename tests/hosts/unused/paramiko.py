"""In the way of the real one: ``PYTHONPATH`` of who runs Ansible in the tests names this folder.

ansible-playbook imports paramiko where it is there, for a kind of connection that nobody here
has; it comes with the OSCAL library. That is a tenth of what a small play costs.
"""

raise ImportError("connections of the tests are made by ssh(1)")
