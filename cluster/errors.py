"""The errors a caller can act on. Every message says what to do next."""


class QuireError(Exception):
    """Root of every error that Quire raises on purpose."""


class InvalidInput(QuireError):
    """The caller's input cannot be used as it is."""


class NotFound(QuireError):
    """The thing named does not exist."""


class FingerprintMismatch(QuireError):
    """A collection holds vectors of another model, precision or preprocessing."""


class ModelUnavailable(QuireError):
    """A checkpoint is missing, incomplete, or not allowed to be loaded."""


class StoreUnavailable(QuireError):
    """Milvus, embedded or remote, cannot be reached or refuses the call."""


class UnreadableDocument(QuireError):
    """A document cannot be turned into pages.

    `reason` is a short stable word such as "encrypted" or "corrupt"; `skipped` is true where the
    document is sound but not for us (encrypted, empty), false where it is broken.
    """

    def __init__(self, reason: str, message: str, *, skipped: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.skipped = skipped

    def __reduce__(self) -> tuple[object, ...]:
        return (_unreadable, (self.reason, str(self), self.skipped))


def _unreadable(reason: str, message: str, skipped: bool) -> UnreadableDocument:
    return UnreadableDocument(reason, message, skipped=skipped)
