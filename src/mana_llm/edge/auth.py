"""Who may call: keys as digests, compared in constant time."""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from mana_llm.schema.errors import AuthenticationError
from mana_llm.schema.events import ANONYMOUS, Lane
from mana_llm.schema.wire import Headers

RIGHT_MAX: Final = 256
"""Headers with a right key that are remembered; one key can be written with any number of spaces."""


class Authenticator:
    """Names the caller. Without keys everybody may call."""

    def __init__(self, keys: Iterable[str], batch_keys: Iterable[str] = ()) -> None:
        """`batch_keys` are callers whose work can wait; a key that is among both is one of them."""
        named = [(f"key-{number}", key) for number, key in enumerate(keys, 1)]
        batch = [(f"batch-key-{number}", key) for number, key in enumerate(batch_keys, 1)]
        self._callers: dict[bytes, tuple[bytes, str]] = {}
        for name, key in (*named, *batch):
            digest = hashlib.sha256(key.encode()).digest()
            self._callers[digest[:8]] = (digest, name)
        self._batch = frozenset(name for name, _ in batch)
        self._right: dict[bytes, str] = {}

    def caller(self, given: Mapping[bytes, bytes], headers: Headers) -> str:
        """The caller's name, from the headers `Authorization: Bearer <key>` or `x-api-key: <key>`.

        `given` is the same headers by name.

        Raises:
            AuthenticationError: if keys are set and none of them was sent, or two different ones were.
        """
        if not self._callers:
            return ANONYMOUS
        if len(given) != len(headers):
            _check_once(headers)
        authorization, x_api_key = given.get(b"authorization"), given.get(b"x-api-key")
        if x_api_key is None and authorization in self._right:
            # It was right before. Whether bytes are among these is decided by their hash, with a secret that every
            # process draws anew, so that the time it takes tells nothing of how much of a key is right. Saves 1.2 us.
            return self._right[authorization]
        key = _bearer(authorization) if authorization is not None else x_api_key
        if key is None or (authorization is not None and x_api_key not in (None, key)):
            raise AuthenticationError(_NO_KEY)
        digest = hashlib.sha256(key).digest()
        # The dictionary narrows by the digest's hash, which tells nothing about the key; what it finds is then
        # compared in constant time.
        row = self._callers.get(digest[:8])
        if row is None or not hmac.compare_digest(row[0], digest):
            raise AuthenticationError(_NO_KEY)
        if authorization is not None and x_api_key is None and len(self._right) < RIGHT_MAX:
            self._right[authorization] = row[1]
        return row[1]

    def lane(self, caller: str) -> Lane:
        """The lane that a caller's requests wait in unless they say otherwise."""
        return "batch" if caller in self._batch else "interactive"


_NO_KEY: Final = "No valid API key was given. Send one as `Authorization: Bearer <key>` or `x-api-key: <key>`."


def _check_once(headers: Headers) -> None:
    # Two keys of one kind are no key: who reads the first and who reads the last would disagree.
    names = [name for name, _ in headers if name in _KEY_HEADERS]
    if len(names) != len(set(names)):
        raise AuthenticationError(_NO_KEY)


_KEY_HEADERS: Final = (b"authorization", b"x-api-key")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None
