"""Every error of the product, in one tree with three roots: one per thing a worker can do about it.

ScorefoldError
├── PermanentError   the same input fails again    -> quarantine the submission, settle the message
├── TransientError   the world may heal by itself  -> back off, try again
└── FatalError       this process cannot go on     -> exit with `exit_code`; its work comes back by lease

Foreign errors are translated once, at the border where they arise, with `raise ... from`.
"""

from __future__ import annotations


class ScorefoldError(Exception):
    """Base of all errors that scorefold raises on purpose; the class docstring is the default message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).strip())


class PermanentError(ScorefoldError):
    """The same input will fail in the same way again."""


class TransientError(ScorefoldError):
    """Something outside failed and may heal by itself."""


class FatalError(ScorefoldError):
    """This process cannot go on."""

    exit_code = 70


class InvalidInputError(PermanentError):
    """A file, row or event does not have the documented form."""


class LocalFaultError(InvalidInputError):
    """This machine is in the way: a file that may be good cannot be read, or its rejects not written."""


class UnknownItemError(PermanentError):
    """No item with this id has been loaded."""


class CorruptArtifactError(PermanentError):
    """A stored artifact is incomplete, changed or not a safetensors file."""


class IncompatibleArtifactError(PermanentError):
    """A stored artifact was made for another backbone, item or set of levels."""


class GoldenMismatchError(PermanentError):
    """A scorer does not reproduce the golden rows that were stored with it."""


class NotANumberError(PermanentError):
    """A model's output for an answer is not a number."""


class DatabaseUnavailableError(TransientError):
    """Postgres does not answer."""


class BrokerUnavailableError(TransientError):
    """Redis does not answer."""


class StoreUnavailableError(TransientError):
    """The artifact store does not answer."""


class DeviceOutOfMemoryError(TransientError):
    """The batch does not fit on the device."""


class BackboneUnavailableError(FatalError):
    """The backbone's weights cannot be loaded."""

    exit_code = 78


class EngineUnavailableError(FatalError):
    """The engine that the settings ask for cannot run here."""

    exit_code = 78


class EngineStalledError(FatalError):
    """The engine thread makes no progress."""

    exit_code = 75


class EmbeddedServiceError(FatalError):
    """The embedded Postgres or Redis server cannot be started, reached or stopped."""

    exit_code = 69
