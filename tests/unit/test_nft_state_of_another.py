"""A table's state names that table alone: nothing else may be written in its name."""

from __future__ import annotations

import pytest

from remedies.errors import InputError
from remedies.rules.restore_script import nft_batch, nft_commands, nft_objects

TABLE = '{"table": {"family": "inet", "name": "remedy_x"}}'


def chain(family: str = "inet", table: str = "remedy_x") -> str:
    return f'{{"chain": {{"family": "{family}", "table": "{table}", "name": "c"}}}}'


def test_its_own_objects_are_taken() -> None:
    assert len(nft_objects("inet/remedy_x", f"{TABLE}\n{chain()}")) == 2


@pytest.mark.parametrize(
    "line",
    [
        chain(table="filter"),
        chain(family="ip"),
        '{"table": {"family": "inet", "name": "filter"}}',
        '{"table": {"family": "ip", "name": "remedy_x"}}',
    ],
)
def test_an_object_of_another_table_is_refused(line: str) -> None:
    for use in (nft_objects, nft_batch):
        with pytest.raises(InputError, match=r"nft:inet/remedy_x: .*another table"):
            use("inet/remedy_x", f"{TABLE}\n{line}")


@pytest.mark.parametrize("line", ["{}", "[]", "x", '{"table": 1}', '{"chain": {"name": "c"}}'])
def test_what_is_no_object_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="nft:inet/remedy_x"):
        nft_objects("inet/remedy_x", line)


def test_a_table_that_is_to_be_absent_is_made_and_removed() -> None:
    """What is not there cannot be removed: nft(8) fails, and with it all of the transaction."""
    name = {"table": {"family": "inet", "name": "remedy_x"}}
    assert nft_commands("inet/remedy_x", None) == [{"add": name}, {"delete": name}]
