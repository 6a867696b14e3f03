"""API keys: shown once, stored as hashes, bound to a tenant and to scopes."""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from cluster.errors import InvalidInput, NotFound, StoreUnavailable, Unauthorized

Scope = Literal["search", "ingest", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)
PREFIX = "quire_"
SECRET_BYTES = 32
ID_CHARS = 8


@dataclass(frozen=True)
class Key:
    """One key. `digest` is the sha256 of the secret, which has 256 random bits.

    `collections`: those that it is for, beside the one that the service is started with.
    """

    key_id: str
    digest: str
    tenant: str
    scopes: tuple[str, ...]
    note: str
    created: float
    revoked: bool = False
    collections: tuple[str, ...] = ()


class KeyRing:
    """The keys in one file; every process reads the file again once it has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def create(
        self,
        tenant: str,
        scopes: tuple[str, ...],
        note: str = "",
        collections: tuple[str, ...] = (),
    ) -> tuple[Key, str]:
        """Make a key; returns it and its text, which is stored nowhere. Raises InvalidInput."""
        wrong = [scope for scope in scopes if scope not in SCOPES]
        if wrong or not scopes:
            raise InvalidInput(f"scopes are {', '.join(SCOPES)}: at least one, and no other")
        key_id, secret = secrets.token_hex(ID_CHARS // 2), secrets.token_urlsafe(SECRET_BYTES)
        key = Key(key_id, _digest(secret), tenant, tuple(sorted(set(scopes))), note, time.time())
        key = replace(key, collections=collections)
        with self._changing() as keys:
            keys[key_id] = key
        return key, f"{PREFIX}{key_id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """Make a key useless. Raises NotFound."""
        with self._changing() as keys:
            if key_id not in keys:
                raise NotFound(f"there is no key {key_id!r}: `quire keys list` shows them")
            keys[key_id] = replace(keys[key_id], revoked=True)
            return keys[key_id]

    def keys(self) -> list[Key]:
        """Return every key, revoked ones too, oldest first."""
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.created)

    def check(self, text: str) -> Key:
        """Find the key of this text. Raises Unauthorized."""
        self._refresh()
        key_id, _, secret = text.removeprefix(PREFIX).partition("_")
        key = self._keys.get(key_id)
        # Compared in any case, so that an unknown id takes as long as a wrong secret.
        same = hmac.compare_digest(_digest(secret), key.digest if key else _digest(""))
        if key is None or not same or key.revoked or not text.startswith(PREFIX):
            raise Unauthorized("this key is not valid: create one with `quire keys create`")
        return key

    def _refresh(self) -> None:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            self._keys = self._read()
            self._stamp = stamp

    def _read(self) -> dict[str, Key]:
        if not self._file.exists():
            return {}
        try:
            entries = json.loads(self._file.read_text())
            keys = [_key(entry) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreUnavailable(f"{self._file} is no file of keys: {error}") from error
        return {key.key_id: key for key in keys}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """Read, change and replace the file, one process at a time."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = self._read()
            yield keys
            draft = self._file.with_suffix(".new")
            text = json.dumps([asdict(key) for key in keys.values()], indent=1)
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
            ) as new:
                new.write(text)
            draft.replace(self._file)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(entry: dict[str, Any]) -> Key:
    """Return a key of the file; one of Quire 0.1 is for no other collection."""
    lists = {name: tuple(entry.get(name, ())) for name in ("scopes", "collections")}
    return Key(**{**entry, **lists})
