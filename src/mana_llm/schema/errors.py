"""Every error there is, each of which knows its status, its words for the client, and what the walk does with it.

Two families. A `RequestError` is the client's: it is answered and nothing else happens. A `ProviderError` is an
upstream's: `walks_on` says whether the next entry of the chain is tried, `health` what the provider's health
learns from it. The table is docs/behaviour.md. No message ever holds prompt text or a key.
"""

from typing import Any, ClassVar, Literal

Health = Literal["failure", "none", "parked"]


class GatewayError(Exception):
    """Something that a client is told, in OpenAI's error shape."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    in_vain: bool = False
    """Whether there is no use in sending the request again at once: clients that know `x-should-retry` then do not."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def reason(self) -> str:
        """The word for it in attempts, metrics and the log: the class's name."""
        return type(self).__name__

    def headers(self) -> dict[str, str]:
        """Further header fields of the answer."""
        # Source: openai-python 3.52, `_base_client.py`: it repeats every 5xx of which this does not say otherwise.
        return {"x-should-retry": "false"} if self.in_vain else {}

    def body(self) -> dict[str, Any]:
        """The body in OpenAI's shape, all four members present."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class InternalError(GatewayError):
    """Our own fault; the client learns only that, the log has the rest."""

    code = "internal_error"


class RequestError(GatewayError):
    """The client's request cannot be served as it is; the message says what to do."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code


class StoppingError(GatewayError):
    """The gateway is being stopped; another instance, or the same a moment later, will serve."""

    status = 503
    type = code = "server_shutting_down"

    def __init__(self) -> None:
        super().__init__("The gateway is shutting down; send the request again.")


class CrowdedError(GatewayError):
    """More clients are connected than this machine lets the gateway hold; its log says which limit it is."""

    status = 503
    type = code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The gateway has too many connections; send the request again in a moment.")

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class MemoryShortError(GatewayError):
    """The request needs more memory than the gateway has left just now; see MANA_LLM_MEMORY_BYTES_MAX."""

    status = 503
    type = code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The gateway has no memory left for this request; send it again in a moment.")

    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class ClientLeftError(GatewayError):
    """The client went away before its request was whole; nobody is there to be told."""

    status = 499
    type = code = "client_left"

    def __init__(self) -> None:
        super().__init__("The client left before its request was whole.")


class AuthenticationError(RequestError):
    """The caller gave no key, or one that is not known here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=401, code="invalid_api_key")

    def headers(self) -> dict[str, str]:
        return {"www-authenticate": "Bearer"}


class MethodError(RequestError):
    """The path exists and does not take this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"Method {method} is not allowed here. Use {allowed}.", status=405)
        self.code = "method_not_allowed"
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        return {"allow": self._allowed}


class ProviderError(GatewayError):
    """A provider did not give an answer that can be used.

    `provider` is filled in by the attempt. `retry_after_s` is the provider's own wish, None if it has none.
    `detail` is what attempts show: the message, unless that is the provider's own, which may quote a prompt.
    """

    status = 503
    type = "provider_error"
    walks_on: ClassVar[bool] = True
    health: Health = "failure"
    code: str | None = "provider_error"
    reached: bool = True
    """Whether there was a connection at all: where there was none, a probe that gets through outweighs the failure."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        health: Health | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.detail = message
        self.retry_after_s = retry_after_s
        self.provider = ""
        if health is not None:
            self.health = health

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **retry_after_header(self.retry_after_s)}


class ProviderConnectError(ProviderError):
    """No connection came about: refused, unreachable, name not found, TLS not trusted, pool full."""

    type = code = "provider_connect"
    reached = False


class ProviderTimeoutError(ProviderError):
    """Something did not come in time: the connection, the first token, the next one, or the end."""

    type = code = "provider_timeout"


class ProviderServerError(ProviderError):
    """The provider says that it failed (5xx and kin)."""

    type = code = "provider_server"


class ProviderProtocolError(ProviderError):
    """What came is not what the provider's API promises: a cut, a wrong type, a line that is not JSON."""

    type = code = "provider_protocol"


class ProviderRateLimitError(ProviderError):
    """The provider wants us to come later."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class ProviderQuotaError(ProviderError):
    """The account behind our key has run out of money or allowance; time alone will not mend it soon."""

    status = 429
    type = code = "insufficient_quota"
    health = "parked"


class ProviderCapabilityError(ProviderError):
    """The model or its API cannot do what was asked; nothing was sent."""

    status = 400
    type = "invalid_request_error"
    code = "provider_capability"
    walks_on = False
    health = "none"


class ProviderAuthError(ProviderError):
    """The provider refused our key; callers can do nothing about it, the operator can."""

    status = 502
    type = code = "provider_auth"
    in_vain = True
    walks_on = False
    health = "none"


class ProviderBlockedError(ProviderError):
    """The provider's content filter stopped the prompt or the answer before any content."""

    status = 422
    type = code = "content_filter"
    walks_on = False
    health = "none"


class ProviderTruncatedError(ProviderError):
    """The token ceiling was reached before any content came."""

    status = 502
    type = code = "provider_truncated"
    # It would end the same, and each try is a paid generation.
    in_vain = True
    walks_on = False
    health = "none"


class ProviderRequestError(ProviderError):
    """The provider refused the request itself (another 4xx); its status, message and code are passed on."""

    type = "invalid_request_error"
    walks_on = False
    health = "none"

    def __init__(self, message: str, *, status: int, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.code = code


class NoHealthyProviderError(GatewayError):
    """The chain is exhausted. `attempts` has one row per entry: `{"model", "reason", "detail"}`.

    `in_vain` says that there is no use in coming again at once; it is not set where an entry that might have answered
    was not asked, since its places were taken or retries were held back.
    """

    status = 503
    type = code = "no_healthy_provider"

    def __init__(self, asked: str, attempts: list[dict[str, str]], retry_after_s: float | None = None) -> None:
        tried = "; ".join(f"{row['model']}: {row['reason']}" for row in attempts) or "none was tried"
        super().__init__(f"No provider could answer {asked!r} ({tried}). See error.attempts.")
        self.attempts = attempts
        self.retry_after_s = retry_after_s
        self.in_vain = True

    def headers(self) -> dict[str, str]:
        # The chain was walked already: a client that repeats at once only multiplies an outage.
        return {**super().headers(), **retry_after_header(self.retry_after_s)}

    def body(self) -> dict[str, Any]:
        body = super().body()
        body["error"]["attempts"] = self.attempts
        return body


class DeadlineError(NoHealthyProviderError):
    """The walk's own deadline ran out before any entry answered."""

    status = 504
    type = code = "deadline_exceeded"


def retry_after_header(retry_after_s: float | None) -> dict[str, str]:
    """`Retry-After` in whole seconds, rounded up so that nobody comes too early; empty if there is no wish."""
    if retry_after_s is None:
        return {}
    return {"retry-after": str(max(0, int(-(-retry_after_s // 1))))}
