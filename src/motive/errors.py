"""An error that is nobody's mistake."""


class TryAgain(ValueError):
    """Trying again later may mend it: a server that did not answer, a worker that died. Nothing is lost."""
