"""What is known of one client request, from its first byte to its end."""

from mana_llm.schema.targets import Target
from mana_llm.schema.usage import Usage


class Exchange:
    """One client request. `config` is the version of the aliases that resolve it, "" before.
    Instants are the clock's seconds, 0.0 where the moment never came.

    `overhead_s` is what the gateway added: the time until the answer, or a stream's first content, that was not
    spent on waiting for providers (None if none was asked). `model` is the model as asked, or `other` where no such
    model is known here, so that clients cannot create series. `prompt_cut` says that the provider is known to have
    dropped a part of the prompt.
    """

    __slots__ = (
        "alias",
        "attempts",
        "began_s",
        "caller",
        "config",
        "ended_s",
        "first_s",
        "model",
        "overhead_s",
        "prompt_cut",
        "request_id",
        "status",
        "target",
        "usage",
    )

    def __init__(self, request_id: str, began_s: float) -> None:
        self.request_id = request_id
        self.began_s = began_s
        self.ended_s = 0.0
        self.first_s = 0.0
        self.overhead_s: float | None = None
        self.status = 0
        self.attempts = 0
        self.model = "other"
        self.caller = ""
        self.config = ""
        self.alias: str | None = None
        self.target: Target | None = None
        self.usage: Usage | None = None
        self.prompt_cut = False
