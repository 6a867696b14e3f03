"""`quire keys`: create, list and revoke API keys."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from cluster.command_options import Json, Store, command, command_group, print_rows
from cluster.settings import load_settings

app = command_group("API keys of `quire serve`.")


@command(app, "create")
def create_key(
    tenant: Annotated[str, typer.Option(help="The tenant whose pages the key may see.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="search, ingest or admin; may be repeated. \\[default: search]"),
    ] = None,
    note: Annotated[str, typer.Option(help="Who or what it is for.")] = "",
    collection: Annotated[
        list[str] | None,
        typer.Option(help="A collection beside the service's own that it is for, too; repeatable."),
    ] = None,
    store: Store = None,
) -> None:
    """Create a key and show it, once."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    key, text = KeyRing(settings.keys_path).create(
        tenant, tuple(scope or ("search",)), note, tuple(collection or ())
    )
    print(text)
    Console(stderr=True).print(
        f"key {key.key_id}, tenant {tenant!r}, {', '.join(key.scopes)}: it is not shown again",
        style="dim",
    )


@command(app, "list")
def list_keys(store: Store = None, json_: Json = False) -> None:
    """List keys, without their secrets."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    rows = [
        {
            "key": key.key_id,
            "tenant": key.tenant,
            "scopes": ", ".join(key.scopes),
            "collections": ", ".join(key.collections),
            "note": key.note,
            "created": datetime.fromtimestamp(key.created, UTC).isoformat(timespec="seconds"),
            "revoked": key.revoked,
        }
        for key in KeyRing(settings.keys_path).keys()  # noqa: SIM118 — a method of its own
    ]
    print_rows(rows, json_, empty="there is no key: quire keys create")


@command(app, "revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="Its id (quire keys list).")], store: Store = None
) -> None:
    """Make a key useless, at once."""
    settings = load_settings(store=store)
    from serve.auth.keys import KeyRing

    print(f"revoked {KeyRing(settings.keys_path).revoke(key).key_id}")
