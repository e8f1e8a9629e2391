"""Every setting: a name with its unit, a default and a sentence of help.

The table below is the only list: `.env.example`, `docs/settings.md` and the start-up check are made from it.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from mana_llm.settings.kinds import Secret

T = TypeVar("T")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def setting(name: str, default: object, text: str, **limits: object) -> Any:
    """One setting: its environment name, its default, and a sentence that tells an operator what it does."""
    return field(default=default, metadata={"name": name, "help": text, **limits})


# The OpenAI-compatible clouds: the start of their settings' names, what people call them, where they are (version
# path included). Each makes a key and a base URL. Source: `providers/table.py` has it for every row.
CLOUDS: Final = (
    ("openai", "OpenAI", "https://api.openai.com/v1"),
    ("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    ("groq", "Groq", "https://api.groq.com/openai/v1"),
    ("together", "Together", "https://api.together.ai/v1"),
    ("mistral", "Mistral", "https://api.mistral.ai/v1"),
    ("deepseek", "DeepSeek", "https://api.deepseek.com"),
    ("xai", "xAI", "https://api.x.ai/v1"),
    ("fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1"),
    ("cerebras", "Cerebras", "https://api.cerebras.ai/v1"),
    ("perplexity", "Perplexity", "https://api.perplexity.ai"),
    ("nvidia", "NVIDIA", "https://integrate.api.nvidia.com/v1"),
    ("sambanova", "SambaNova", "https://api.sambanova.ai/v1"),
    ("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai"),
    ("hyperbolic", "Hyperbolic", "https://api.hyperbolic.xyz/v1"),
    ("moonshot", "Moonshot", "https://api.moonshot.ai/v1"),
    ("huggingface", "Hugging Face's router", "https://router.huggingface.co/v1"),
)


def with_clouds(settings: type[T]) -> type[T]:
    """Give a class of settings, before it becomes a dataclass, `<name>_api_key` and `<name>_base_url` per cloud."""
    kinds = dict(settings.__annotations__)
    for name, title, url in CLOUDS:
        key, base = f"{name}_api_key", f"{name}_base_url"
        setattr(settings, key, setting(key.upper(), Secret(), f"Key for {title}. Without it {name} is not used."))
        setattr(settings, base, setting(base.upper(), url, f"{title}: base URL, version path included.", url=True))
        kinds |= {key: Secret, base: str}
    settings.__annotations__ = kinds
    return settings


@dataclass(frozen=True)
@with_clouds
class Settings:
    """Everything that an operator can set; the clouds' settings are made from their table."""

    port: int = setting("PORT", 3025, "Port that the gateway listens on.", low=0, high=65535)
    host: str = setting(
        "HOST",
        "127.0.0.1",
        "Address to listen on. Beyond loopback a caller key is required (see GPU_API_KEY).",
    )
    log_level: str = setting("LOG_LEVEL", "info", "debug, info, warning or error.", choices=LOG_LEVELS)
    access_log: bool = setting(
        "MANA_LLM_ACCESS_LOG",
        default=True,
        text="A line on standard error for every request: JSON, or text on a terminal. Never with words of a prompt.",
    )
    ollama_url: str = setting("OLLAMA_URL", "http://localhost:11434", "Where Ollama is. Empty: not used.", url=True)
    ollama_default_model: str = setting("OLLAMA_DEFAULT_MODEL", "gemma3:4b", "Model that `ollama` alone means.")
    ollama_timeout: float = setting(
        "OLLAMA_TIMEOUT",
        120.0,
        "Seconds to wait for Ollama's first token; it may be loading a model.",
        low=0.001,
    )
    ollama_max_concurrent: int = setting(
        "OLLAMA_MAX_CONCURRENT",
        3,
        "Requests that Ollama is given at once; the others wait or go on. 0: no limit.",
        low=0,
    )
    google_api_key: Secret = setting("GOOGLE_API_KEY", Secret(), "Key for Google Gemini.")
    google_base_url: str = setting(
        "GOOGLE_BASE_URL",
        "https://generativelanguage.googleapis.com",
        "Gemini's base URL, no version.",
        url=True,
    )
    google_default_model: str = setting(
        "GOOGLE_DEFAULT_MODEL", "gemini-3.5-flash-lite", "Model that `google` alone means."
    )
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS", (), "Origins of web pages that may call, comma-separated; * for any. Empty: none."
    )
    aliases_path: str = setting(
        "ALIASES_PATH",
        "",
        "Aliases file. Empty: aliases.yaml in the working directory, else the shipped one.",
    )
    providers_path: str = setting(
        "PROVIDERS_PATH",
        "",
        "File with further OpenAI-compatible servers. Empty: providers.yaml in the working directory, if there is one.",
    )
    gpu_api_key: Secret = setting("GPU_API_KEY", Secret(), "The key that callers must send. Empty: none needed.")
    api_keys: tuple[Secret, ...] = setting("API_KEYS", (), "Further caller keys, comma-separated.", secret=True)
    batch_keys: tuple[Secret, ...] = setting(
        "MANA_LLM_BATCH_KEYS",
        (),
        "Further caller keys, comma-separated, whose requests wait behind all others unless their header "
        "X-Mana-LLM-Lane says interactive.",
        secret=True,
    )
    allow_anonymous: bool = setting(
        "MANA_LLM_ALLOW_ANONYMOUS", default=False, text="true: start beyond loopback without a caller key."
    )
    connect_s: float = setting("MANA_LLM_CONNECT_S", 5.0, "Seconds to connect to a provider.", low=0.001)
    ttft_s: float = setting(
        "MANA_LLM_TTFT_S",
        0.0,
        "Seconds to wait for a place and the first token, plain answers too. 0: 60 for clouds, OLLAMA_TIMEOUT for "
        "Ollama, of streams and from sending only.",
        low=0,
    )
    idle_s: float = setting("MANA_LLM_IDLE_S", 60.0, "Seconds of silence allowed within an answer.", low=0.001)
    total_s: float = setting("MANA_LLM_TOTAL_S", 600.0, "Seconds for a whole request, fallbacks included.", low=0.001)
    max_concurrent: tuple[str, ...] = setting(
        "MANA_LLM_MAX_CONCURRENT",
        (),
        "Requests that other providers are given at once: provider=number, comma-separated, such as groq=10. "
        "Those not named have no limit.",
    )
    queue_max: int = setting(
        "MANA_LLM_QUEUE_MAX", 256, "Requests that may wait for one provider's place. 0: none waits.", low=0
    )
    queue_s: float = setting(
        "MANA_LLM_QUEUE_S",
        2.0,
        "Seconds to wait for a place before a later entry of the chain is tried, if one could be asked, and between "
        "two looks for one; the last entry is waited for.",
        low=0,
    )
    single_flight: bool = setting(
        "MANA_LLM_SINGLE_FLIGHT",
        default=True,
        text="Identical requests of one caller that are under way at the same time share one answer: embeddings, and "
        "plain chats with temperature 0. false: never.",
    )
    workers: int = setting(
        "MANA_LLM_WORKERS",
        1,
        "Processes that serve. Each has its own health and its share of OLLAMA_MAX_CONCURRENT and such, at least 1.",
        low=1,
        high=256,
    )
    soft_commit_s: float = setting(
        "MANA_LLM_SOFT_COMMIT_S",
        15.0,
        "Seconds without content after which a stream is begun, with keep-alives as far apart. 0: never.",
        low=0,
    )
    drain_s: float = setting("MANA_LLM_DRAIN_S", 25.0, "Seconds that SIGTERM leaves to running requests.", low=0)
    drain_accept_s: float = setting(
        "MANA_LLM_DRAIN_ACCEPT_S",
        5.0,
        "Seconds of them in which new requests are served too, until load balancers have noticed. Less if none come.",
        low=0,
    )
    body_bytes_max: int = setting(
        "MANA_LLM_BODY_BYTES_MAX", 20 * 1024 * 1024, "Largest request body, in bytes.", low=1024
    )
    memory_bytes_max: int = setting(
        "MANA_LLM_MEMORY_BYTES_MAX",
        -1,
        "Bytes of memory that all workers together may have; large bodies beyond are told 503. -1: four fifths of the "
        "container's or process's limit, if there is one. 0: no bound.",
        low=-1,
    )
    fetch_private: bool = setting(
        "MANA_LLM_FETCH_PRIVATE",
        default=False,
        text="true: images by URL are fetched from private addresses, by http and from any port, too.",
    )
    fetch_bytes_max: int = setting(
        "MANA_LLM_FETCH_BYTES_MAX",
        20 * 1024 * 1024,
        "Bytes that one request's images by URL may have together, for providers that fetch none. 0: never fetched.",
        low=0,
    )
    fetch_s: float = setting("MANA_LLM_FETCH_S", 10.0, "Seconds to fetch them, all together.", low=0.001)
    header_s: float = setting("MANA_LLM_HEADER_S", 10.0, "Seconds for a client to send its headers.", low=0.001)
    body_s: float = setting("MANA_LLM_BODY_S", 60.0, "Seconds for a client to send its body.", low=0.001)
    stall_s: float = setting(
        "MANA_LLM_STALL_S", 60.0, "Seconds that a client may refuse to read before it is cut off.", low=0.001
    )
    keep_alive_s: float = setting(
        "MANA_LLM_KEEP_ALIVE_S", 75.0, "Seconds an idle client connection stays open.", low=0.001
    )
    health_failures: int = setting(
        "MANA_LLM_HEALTH_FAILURES", 2, "Consecutive failures that take a provider out.", low=1
    )
    health_backoff_s: float = setting(
        "MANA_LLM_HEALTH_BACKOFF_S", 60.0, "Seconds that a provider stays out (times 1 to 1.5).", low=0
    )
    probe_interval_s: float = setting(
        "MANA_LLM_PROBE_INTERVAL_S",
        30.0,
        "Seconds between two free requests that ask a provider whether it is there (times 0.8 to 1.2). 0: none.",
        low=0,
    )
    probe_timeout_s: float = setting("MANA_LLM_PROBE_TIMEOUT_S", 3.0, "Seconds for one of them.", low=0.001)
    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The proxy variables that are set (HTTPS_PROXY and kin, either case): they may hold a password."""
    environment: tuple[tuple[str, Secret], ...] = field(default=(), repr=False, compare=False)
    """Everything that is set, for the keys that the providers file names."""
    worker: int = 0
    """Which of the `workers` this process is, from 0 on."""

    def share(self, limit: int) -> int:
        """This worker's part of a limit for all of them: at least 1, and 0 (no limit) if that is none."""
        return limit and max(1, limit // self.workers + (self.worker < limit % self.workers))

    @property
    def caller_keys(self) -> tuple[Secret, ...]:
        """Every key that a caller may use."""
        return tuple(key for key in (self.gpu_api_key, *self.api_keys, *self.batch_keys) if key.reveal())


def specs() -> list[dataclasses.Field[Any]]:
    """The settings in their order, as fields whose metadata holds `name` and `help`."""
    return [spec for spec in dataclasses.fields(Settings) if spec.metadata]
