"""The ring of keys, and its commands."""

import json
import stat
from pathlib import Path

import pytest

from cluster.errors import InvalidInput, Unauthorized
from serve.auth.keys import KeyRing
from tests.support.serving import quire


@pytest.mark.services
def test_serving_other_addresses_needs_a_key_first(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no key yet"):
        quire("serve", "--host", "0.0.0.0", "--store", str(tmp_path / "store"), "--port", "8")


def test_keys_are_shown_once_and_stored_as_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, text = KeyRing(file).create("acme", ("search",), "the shop")
    secret = text.split("_", 2)[2]  # which may hold an underscore itself
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = KeyRing(file)  # as another process has it
    assert other.check(text) == key
    KeyRing(file).revoke(key.key_id)
    with pytest.raises(Unauthorized):
        other.check(text)
    with pytest.raises(InvalidInput):
        other.create("acme", ("everything",))


@pytest.mark.services
def test_keys_on_the_command_line(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    text = quire("keys", "create", "--tenant", "acme", "--scope", "ingest", *store).strip()
    (row,) = json.loads(quire("keys", "list", "--json", *store))
    assert (row["tenant"], row["scopes"], row["revoked"]) == ("acme", "ingest", False)
    assert text.startswith(f"quire_{row['key']}_")
    quire("keys", "revoke", row["key"], *store)
    (row,) = json.loads(quire("keys", "list", "--json", *store))
    assert row["revoked"]
