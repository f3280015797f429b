# GNU General Public License v2.0 or later (see LICENSE)
"""What ``ansible-doc`` tells of the action ``remedy``: there is no module that a host would run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remedy
short_description: Find, fix and undo networking faults of container hosts
version_added: "1.0.0"
author:
  - The remedy developers (!UNKNOWN)
description:
  - Runs one verb of remedy on the host. Nothing has to be installed there but Python 3.9 or later.
  - The action keeps the single-file tool on the host, once for each version of it, in a folder
    that is the user's alone, and checks its digest before every use.
  - A host that applies undoes the change by itself unless a new connection confirms it in time.
  - An option that the task does not give is the host's variable C(remedy_OPTION), but for O(verb),
    O(previous), O(transaction), O(fix) and O(every).
options:
  verb:
    description: What to do.
    type: str
    required: true
    choices: [scan, plan, apply, confirm, rollback, report]
  policy:
    description:
      - Names of shipped policies, or policy files on the controller; a later one wins.
      - A relative file is beside the inventory or the playbook.
    type: list
    elements: str
  params:
    description: Parameters by condition, laid over the policy.
    type: dict
  netns:
    description: Network namespace on the host (name, path or process id).
    type: str
  state_dir:
    description: Folder of journal and lock on the host. The default is C(/var/lib/remedy).
    type: path
  backend:
    description: Where rules are written. The default is what the policy says.
    type: str
    choices: [auto, nftables, iptables]
  window:
    description: How long to watch counters and packets, such as C(10s).
    type: str
  lock_timeout:
    description: How long to wait for another writer, such as C(30s).
    type: str
  plans:
    description: Folder of C(remedy fleet plan -o). Exactly what was approved is applied.
    type: path
  save:
    description: Folder to save the plan in (O(verb=plan)).
    type: path
  confirm_timeout:
    description:
      - Seconds in which a change has to be confirmed, else the host undoes it (O(verb=apply)).
      - With V(0) the host waits for no confirmation. The default is 120 seconds.
    type: int
  previous:
    description: Transaction of an earlier try, which may have been confirmed (O(verb=apply)).
    type: str
  transaction:
    description: What to undo or to keep (O(verb=rollback), O(verb=confirm)).
    type: str
  fix:
    description: Undo this fix only (O(verb=rollback)).
    type: str
  every:
    description: Undo all that is in force (O(verb=rollback)).
    type: bool
  run:
    description: File on the controller that every word about the host is appended to.
    type: path
  controller:
    description: Process that leads a rollout. When it has ended, no host is begun or confirmed.
    type: str
  record:
    description: Folder that the host's record is kept in, for C(remedy report --fleet).
    type: path
  since:
    description: How far back the record goes.
    type: str
  head:
    description: A hash that the host's journal must hold.
    type: str
  change_id:
    description: The change ticket, for the host's journal.
    type: str
  message:
    description: Why, for the host's journal.
    type: str
  approved_by:
    description: Who approved it, for the host's journal.
    type: str
attributes:
  check_mode:
    description: Shows what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows each change as a diff.
    support: full
"""

EXAMPLES = r"""
- name: What is wrong here
  remedy:
    verb: scan

- name: Apply what the policy wants, reversibly
  remedy:
    verb: apply
    policy: docker-host
    confirm_timeout: 120
    change_id: CHG-4711

- name: Undo the last change
  remedy:
    verb: rollback
"""

RETURN = r"""
rc:
  description: The exit code of remedy on the host, 0 where nothing is wrong.
  returned: always
  type: int
state:
  description: How the host stands, such as V(confirmed), V(reverted) or V(refused).
  returned: always
  type: str
standing:
  description: The same with its reason, as rollouts keep it.
  returned: always
  type: dict
msg:
  description: Why, in one line.
  returned: when there is something to say
  type: str
transaction:
  description: The transaction that was begun, kept or undone, empty where there is none.
  returned: always
  type: str
findings:
  description: What the detectors found, each with condition, subject, verdict and evidence.
  returned: always
  type: list
  elements: dict
changes:
  description: What was changed, or in check mode would be, each with fix, resource and action.
  returned: always
  type: list
  elements: dict
refused:
  description: Fixes that were refused, with the reason.
  returned: always
  type: list
  elements: dict
hosts:
  description: How many hosts the play is for.
  returned: always
  type: int
"""
