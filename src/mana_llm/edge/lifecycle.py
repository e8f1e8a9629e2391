"""Whether the gateway is serving or stopping; one value that everybody may look at."""


class Lifecycle:
    """`stopping`: no new work is welcome. `cutting`: running requests are being ended."""

    __slots__ = ("cutting", "stopping")

    def __init__(self) -> None:
        self.stopping = False
        self.cutting = False
