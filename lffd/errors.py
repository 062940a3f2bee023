"""The errors that users are meant to read: what was wrong, where, and what to do."""

LONGEST_MESSAGE = 4000
"""Letters of an error as text; what a file at fault is called, or holds, may be longer."""


class LffdError(Exception):
    """Base of every error that this project raises on purpose; command lines print it without a traceback.

    As text it is one line of bounded length, whatever names and values of a damaged file it repeats.
    """

    def __str__(self) -> str:
        text = "\\n".join(super().__str__().splitlines())
        half = LONGEST_MESSAGE // 2
        return text if len(text) <= LONGEST_MESSAGE else f"{text[: half - 2]} … {text[-half + 1 :]}"


class GeometryError(LffdError, ValueError):
    """A network declaration or an input size that cannot work; the message says which part and why."""


class DataError(LffdError, ValueError):
    """A file that is not what it should be; the message names the file, the record or line, and the fault."""


class ModelError(LffdError, ValueError):
    """A model that cannot be loaded, saved or verified; the message lists each missing, extra or wrong part."""


class EngineError(LffdError, RuntimeError):
    """An engine that is missing or refuses the work; the message says what to install or change."""


class UsageError(LffdError):
    """A request that cannot be met as given: an unknown name, a clash of options."""
