"""A store that a service keeps open: watched, reported as down at once, opened again by itself."""

import logging
import threading
from contextlib import suppress

from cluster.errors import QuireError, StoreUnavailable
from cluster.settings import Settings
from cluster.store.client import StoreAddress, store_token
from cluster.store.layout import Layout
from cluster.store.lite import MilvusLiteServer
from cluster.store.milvus import MilvusStore

WATCH_S = 1.0
log = logging.getLogger(__name__)


class StoreConnection:
    """Gives the open store, or says why there is none; a thread of its own looks after it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: MilvusLiteServer | None = None
        self._store: MilvusStore | None = None
        self._problem = "the store is not open yet: try again in a moment"
        self._closing = threading.Event()
        self._failed = threading.Event()  # a request met an error: look now
        self._watcher = threading.Thread(target=self._watch, name="store-watch", daemon=True)
        self._watcher.start()

    def store(self) -> MilvusStore:
        """Return the open store. Raises StoreUnavailable at once while there is none."""
        store = self._store
        if store is None or self._failed.is_set():
            raise StoreUnavailable(self._problem)
        return store

    def failed(self) -> None:
        """Tell that a call failed: until the store answers again nobody else need try."""
        self._problem = "Milvus did not answer: try again in a moment"
        self._failed.set()

    def close(self) -> None:
        """Stop watching and leave the store."""
        self._closing.set()
        self._failed.set()
        self._watcher.join(timeout=2 * self._settings.store_timeout_s + WATCH_S)
        self._drop()
        if self._server is not None:
            self._server.close()

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                self._look()
                self._failed.clear()
            except Exception as error:  # noqa: BLE001 — a watcher that ends would be worse
                self._problem = str(error)
                log.warning("the store is down: %s", error)
                self._drop()
                self._closing.wait(WATCH_S)
            else:
                self._failed.wait(WATCH_S)

    def _look(self) -> None:
        """Open the store where it is not open, and see that it answers."""
        store = self._store or self._open()
        try:
            store.ping()
        except QuireError:
            if store is not self._store:
                store.close()
            raise
        self._store = store

    def _open(self) -> MilvusStore:
        settings = self._settings
        uri, token = settings.store, store_token(settings)
        if settings.is_embedded:
            # One that hangs is left alone: it may be busy, and others may use it.
            if self._server is not None and not self._server.is_running():
                self._server.close()
                self._server = None
            self._server = self._server or MilvusLiteServer(settings.data_dir / "milvus")
            uri, token = self._server.uri, ""
        layout = Layout.from_settings(settings)
        timeout_s = settings.store_timeout_s
        return MilvusStore(StoreAddress(uri, settings.collection, token, timeout_s, layout=layout))

    def _drop(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(QuireError):
                store.close()
