"""The errors a caller can act on. Every message says what to do next."""


class QuireError(Exception):
    """Root of every error that Quire raises on purpose."""


class InvalidInput(QuireError):
    """The caller's input cannot be used as it is."""


class TooLarge(InvalidInput):
    """The caller's input exceeds a limit."""


class Unauthorized(QuireError):
    """No valid key came with the request."""


class Forbidden(QuireError):
    """The key does not allow this."""


class Overloaded(QuireError):
    """There is more work than can be done in time; `retry_after_s` says when to try again."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (_overloaded, (type(self), str(self), self.retry_after_s))


class DeadlineExceeded(Overloaded):
    """The time that a request may take is over."""


class NotFound(QuireError):
    """The thing named does not exist."""


class FingerprintMismatch(QuireError):
    """A collection holds vectors of another model, precision or preprocessing."""


class FormatMismatch(QuireError):
    """A collection has a format that this Quire cannot read, or that cannot keep what is asked."""


class ModelUnavailable(QuireError):
    """A checkpoint is missing, incomplete, or not allowed to be loaded."""


class OutOfMemory(QuireError):
    """A model does not fit into the memory that it may take."""


class StoreUnavailable(QuireError):
    """Milvus, embedded or remote, cannot be reached or refuses the call."""


class ServiceUnavailable(QuireError):
    """A running Quire cannot be reached, or cannot answer now."""


class FilesUnavailable(QuireError):
    """Page files, uploads or a backup cannot be written where they are kept."""


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


def _overloaded(kind: type[Overloaded], message: str, retry_after_s: float) -> Overloaded:
    return kind(message, retry_after_s=retry_after_s)
