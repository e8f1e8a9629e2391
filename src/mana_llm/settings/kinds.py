"""What settings are made of: secrets, base URLs, and the error that names a bad one."""

from urllib.parse import urlsplit


class SettingsError(ValueError):
    """A setting cannot be used; the message names it, what is wrong, and what would be right."""


class Secret(str):
    """A value that never prints. `reveal` is for the one place that must send it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if len(self) else "''"

    def __str__(self) -> str:
        return "***" if len(self) else ""

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def reveal(self) -> str:
        """The secret itself."""
        return str.__str__(self)


def is_base_url(text: str) -> bool:
    """Whether a text is an http(s) URL without query, fragment and password."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and not parts.query and not parts.fragment and "@" not in parts.netloc
