"""Another program on a host, that does something when our table appears or goes.

    agent.py TABLE NFT-ON-ARRIVAL NFT-ON-LEAVING

Listens to ``nft monitor`` until it is ended. Says ``ready`` once it listens.
"""

import select
import subprocess
import sys


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=False)


def is_there(table: str) -> bool:
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return f"table inet {table}" in listed.stdout.splitlines()


def main(table: str, arrival: str, leaving: str) -> None:
    with subprocess.Popen(
        ["nft", "monitor"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as monitor:
        assert monitor.stdout is not None
        # Until this table is heard of, the monitor does not listen yet.
        while not select.select([monitor.stdout], [], [], 0.05)[0]:
            nft("add table inet agent_ready")
            nft("delete table inet agent_ready")
        print("ready", flush=True)
        was = is_there(table)
        for _ in monitor.stdout:
            now = is_there(table)
            if now != was:
                nft(arrival if now else leaving)
                was = now


if __name__ == "__main__":
    main(*sys.argv[1:])
