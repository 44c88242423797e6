"""Errors made for people: the value, the place, and what to do next. The command line prints them without a trace."""


class UserError(Exception):
    """Something the user can mend: bad data, a bad setting, a missing file. Its text is the whole message."""


class DataError(UserError):
    """The data cannot be used as it is."""


class SettingError(UserError):
    """A setting has no sense here."""


class BundleError(UserError):
    """A bundle, checkpoint or request cannot be opened or understood."""


class TrainingError(UserError):
    """Training ended without a result. `kind` says whose fault it was, so that a retry can be wise."""

    kind = "code"


class OutOfMemory(TrainingError):
    kind = "memory"


class Infrastructure(TrainingError):
    """A rank or the supervisor died without a word: worth another try, which resumes."""

    kind = "infrastructure"


class Stalled(TrainingError):
    kind = "stalled"


class Cancelled(TrainingError):
    kind = "cancelled"


class ContractError(TypeError):
    """A use case, codec or method breaks the contract: a fault of its author, found when its class is made or checked."""
