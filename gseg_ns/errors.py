"""The one exception that users see."""


class GsegError(Exception):
    """Bad input or an impossible request.

    The message names the file or option that is wrong and what to do about it. Commands print it
    without a traceback and exit with status 1.
    """
