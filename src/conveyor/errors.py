"""The one exception for what a user can mend."""


class ConveyorError(Exception):
    """A mistake the user can mend: the text says where, what was expected, what came, and what to do.

    The command line prints the text alone and leaves with `exit_code`.
    """

    exit_code = 2
