"""Who asks, and what they may do: a key's tenant and scopes, or anyone on loopback."""

from dataclasses import dataclass

from fastapi import Request

from cluster.errors import Forbidden, Unauthorized
from serve.auth.keys import SCOPES, KeyRing, Scope


@dataclass(frozen=True)
class Caller:
    """`tenant` None may name any tenant, `collections` None any collection beside the service's."""

    tenant: str | None
    scopes: tuple[str, ...]
    key_id: str = ""
    collections: tuple[str, ...] | None = None

    def may(self, scope: Scope) -> None:
        """Raise Forbidden unless the key has this scope; admin has them all."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this key lacks the scope {scope!r}: create one that has it")

    def may_use(self, collection: str) -> None:
        """Raise Forbidden unless the key is for this collection, too."""
        if self.collections is not None and collection not in self.collections:
            raise Forbidden(f"this key is not for the collection {collection!r}")

    def tenant_for(self, asked: str | None) -> str | None:
        """Return the tenant to work for; None means all. Raises Forbidden for somebody else's."""
        if self.tenant is None:
            return asked
        if asked is not None and asked != self.tenant:
            raise Forbidden("this key belongs to another tenant")
        return self.tenant

    def one_tenant(self, asked: str | None) -> str:
        """Return the same where one tenant is needed: by default the nameless one."""
        return self.tenant_for(asked) or ""


ANYONE = Caller(None, SCOPES)


def caller_of(request: Request, keys: KeyRing | None) -> Caller:
    """Return the caller of a request; `keys` None needs no key. Raises Unauthorized."""
    if keys is None:
        return ANYONE
    header = request.headers.get("authorization", "")
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text:
        text = request.headers.get("x-api-key", "")
    if not text:
        raise Unauthorized("send a key as `Authorization: Bearer …` (`quire keys create`)")
    key = keys.check(text.strip())
    return Caller(key.tenant, key.scopes, key.key_id, key.collections)
