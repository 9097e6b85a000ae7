"""The words in which the package refuses: one clear sentence, with the remedy in it."""


class NlmeError(ValueError):
    """Base of every refusal of the package; its text is one sentence for the user."""


class DataError(NlmeError):
    """The records cannot be read as asked; names the row, the column and the value."""


class ModelError(NlmeError):
    """The declaration is incomplete or contradicts itself or the data."""


class MethodError(NlmeError):
    """A method or option is not available for this model."""
