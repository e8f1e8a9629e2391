"""What is served at which path, and what each route works with."""

from typing import TYPE_CHECKING

from mana_llm.compose import parts
from mana_llm.dialects.openai import OpenAI
from mana_llm.edge.aliases import AliasRoutes
from mana_llm.edge.app import Endpoint, Gateway, Handler, Services
from mana_llm.edge.chat import Chat, ChatServices
from mana_llm.edge.embeddings import EmbeddingsRoute
from mana_llm.edge.explain import Explain
from mana_llm.edge.models import ModelRoutes
from mana_llm.edge.ops import Ops
from mana_llm.routing.attempt import Ways
from mana_llm.routing.explain import Explainer
from mana_llm.routing.flight import Answering, SingleFlight
from mana_llm.routing.preparation import Preparation
from mana_llm.routing.router import Guards, ProviderRouter
from mana_llm.routing.walk import WalkLimits
from mana_llm.settings import Settings

if TYPE_CHECKING:
    from mana_llm.compose import Application


def gateway_of(application: "Application") -> Gateway:
    """The gateway with all its paths."""
    services = Services(
        authenticator=parts.authenticator(application.settings),
        observer=application.observer,
        clock=application.clock,
        ids=application.ids,
        start=application.start,
        stop=application.stop,
        lifecycle=application.lifecycle,
        aliases=application.aliases,
        cross_origin=parts.cross_origin(application.settings),
    )
    return Gateway(services, _api(application), _ops(application))


def _api(application: "Application") -> dict[str, Endpoint]:
    clock, entries = application.clock, application.entries
    preparation = Preparation(application.transport, parts.fetcher(application.settings), clock)
    guards = Guards(application.health, application.admission, application.catalogue)
    dialect = OpenAI()
    asked = ChatServices(
        dialect=dialect,
        aliases=application.aliases,
        router=_router(application, preparation, guards),
        models=application.models,
        clock=clock,
        lifecycle=application.lifecycle,
        soft_commit_s=application.settings.soft_commit_s,
    )
    models = ModelRoutes(application.listing, application.models)
    aliases = AliasRoutes(application.aliases, entries, application.health, application.reloading)
    explainer = Explainer(entries, guards, preparation, _limits(application.settings))
    explain = Explain(application.aliases, explainer, dialect)
    return {
        "/chat/completions": Endpoint({"POST": Chat(asked)}, walks=True),
        "/embeddings": Endpoint({"POST": EmbeddingsRoute(asked)}, walks=True),
        "/aliases": _read(aliases.listed),
        "/aliases/reload": Endpoint({"POST": aliases.reload}),
        "/aliases/": _read(explain),
        "/models": _read(models.listed),
        "/models/": _read(models.one),
    }


def _router(application: "Application", preparation: Preparation, guards: Guards) -> Answering:
    settings = application.settings
    ways = Ways(application.transport, preparation, application.clock)
    router = ProviderRouter(ways, application.entries, guards, _limits(settings), application.metrics)
    return SingleFlight(router, application.clock, settings.total_s) if settings.single_flight else router


def _limits(settings: Settings) -> WalkLimits:
    return WalkLimits(settings.connect_s, settings.idle_s, settings.total_s, settings.ttft_s or None)


def _ops(application: "Application") -> dict[str, Endpoint]:
    entries = tuple(application.entries.values())
    gates = application.admission.gates
    ops = Ops(entries, application.health, gates, application.lifecycle, application.metrics.text)
    return {
        "/livez": _read(ops.livez),
        "/readyz": _read(ops.readyz),
        "/health": _read(ops.healthy),
        "/v1/health": _read(ops.detailed),
        "/metrics": _read(ops.counted),
    }


def _read(handler: Handler) -> Endpoint:
    return Endpoint({"GET": handler, "HEAD": handler})
