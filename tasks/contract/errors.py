"""Errors for users: each message has the value, the place, and what to do next. The command line prints them without a traceback."""


class UserError(Exception):
    """Something that the user can fix: bad data, a bad setting, a missing file. Its text is the whole message."""


class DataError(UserError):
    """The data is missing, malformed or unsuited to the use case."""


class SettingError(UserError):
    """A setting has a value that does not fit the data, the network or the other settings."""


class BundleError(UserError):
    """A bundle, checkpoint or request cannot be opened or is malformed."""


class StoreError(UserError):
    """The artifact store cannot be read or written: its disk is full, or it is not a folder that may be written."""


class TrainingError(UserError):
    """Training ended without a result. `kind` names the cause, by which a retry is decided."""

    kind = "code"


class OutOfMemory(TrainingError):
    """A rank ran out of CPU or GPU memory."""

    kind = "memory"


class Infrastructure(TrainingError):
    """A rank or the supervisor died without an error of its own: it was killed, or the machine failed. A retry resumes the fit."""

    kind = "infrastructure"


class DiskFull(TrainingError):
    """The disk became full during training. A retry would fail again."""

    kind = "disk"


class Stalled(TrainingError):
    """Training made no progress for too long and was stopped."""

    kind = "stalled"


class Cancelled(TrainingError):
    """Training was cancelled by the user."""

    kind = "cancelled"


class ContractError(TypeError):
    """A use case, codec or method breaks its contract: an error of its author, raised when the class is defined or checked."""
