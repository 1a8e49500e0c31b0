"""What goes wrong because of what a person typed or supplied."""


class UserError(ValueError):
    """One line: what is wrong, where, and what would be accepted. The command line prints it and exits with 2."""
