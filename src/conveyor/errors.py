"""What a user can mend."""


class ConveyorError(Exception):
    """A mistake the user can mend: the text says where, what was expected, what came, and what to do.

    The command line prints the text alone and leaves with `exit_code`.
    """

    exit_code = 2


class BundleError(ConveyorError):
    """A file that is no sound bundle; `name` is one word for what is wrong with it."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name
