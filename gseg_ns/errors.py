"""What users see of errors."""


class GsegError(Exception):
    """Bad input or an impossible request.

    The message names the file or option that is wrong and what to do about it. Commands print it
    without a traceback and exit with status 1.
    """


class OptionError(GsegError, ValueError):
    """A value that an option cannot have.

    tyro prints a ValueError of an option, with the option's name, where another exception would be a traceback.
    """


def missing_extra(what: str, extra: str) -> GsegError:
    """The error where what an extra of ours brings is not installed. We are on no package index: it is the checkout's.

    Args:
        what: needs it, as the beginning of a sentence.
        extra: its name in pyproject.toml.
    """
    return GsegError(f"{what}: run pip install -e '.[{extra}]' in the checkout of gseg-ns")
