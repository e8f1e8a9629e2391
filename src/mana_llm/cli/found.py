"""What a starting gateway says of itself: who is there, who is not, and lines to paste."""

import asyncio
import os
import sys
from typing import Final

import click

from mana_llm.cli.table import print_table
from mana_llm.compose import Application
from mana_llm.edge.server import Server

STARTED_S: Final = 10.0
SHOWN_MODELS: Final = 3
HEADINGS: Final = ("provider", "state", "models")
COLOURS: Final = {"ready": "green", "alias": "cyan", "no answer": "red", "not configured": "dim", "warning": "yellow"}

Row = tuple[str, str, str]


async def tell_what_is_there(application: Application, server: Server, port: int) -> None:
    """Wait until the gateway listens, ask every configured provider for its models, and print a table."""
    async with asyncio.timeout(STARTED_S):
        # uvicorn's server has no event for it.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await application.models.refresh()
    rows = [*_providers(application), *_aliases(application), *_endings(application)]
    print_table(HEADINGS, rows, COLOURS)
    click.echo(lines_to_paste(application, port))


def _providers(application: Application) -> list[Row]:
    """A row for every provider there is, configured or not."""
    lists, rows = application.models.lists(), []
    for name, entry in application.entries.items():
        if entry.provider is None:
            rows.append((name, "not configured", entry.hint))
        elif name in lists:
            some = ", ".join(model.id for model in lists[name][:SHOWN_MODELS])
            rows.append((name, "ready", f"{len(lists[name])}: {some}" if some else "none"))
        else:
            problem = application.models.problem(name)
            rows.append((name, "no answer", problem or "its models list did not come in time"))
    return rows


def _aliases(application: Application) -> list[Row]:
    """A row for every alias, with the entries of its chain that are configured."""
    rows = []
    for alias in application.aliases.aliases:
        chain = [target.label for target in alias.chain if application.entries[target.provider].provider]
        rows.append((alias.name, "alias", " > ".join(chain) or "no entry of its chain is configured"))
    return rows


def _endings(application: Application) -> list[Row]:
    """A row for every model that an alias or a default names, and that is gone or goes soon."""
    return [(ending.named_by, "warning", ending.when) for ending in application.endings()]


def lines_to_paste(application: Application, port: int) -> str:
    """curl, openai-python, and a stream."""
    settings = application.settings
    url = f"http://{_reachable(settings.host)}:{port}/v1"
    model = application.aliases.default
    exported = bool(os.environ.get("GPU_API_KEY"))
    key = ("$GPU_API_KEY" if exported else "YOUR-KEY") if settings.caller_keys else "none"
    headers = ' -H "Content-Type: application/json"'
    if settings.caller_keys:
        headers += f' -H "Authorization: Bearer {key}"'
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    streamed = body[:-1] + ', "stream": true}'
    python = (
        f"import openai; print(openai.OpenAI(base_url='{url}', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[dict(role='user', content='Hello')]).choices[0].message.content)"
    )
    return (
        f"\nListening on {url}. Paste one of these:\n\n"
        f"curl {url}/chat/completions{headers} -d '{body}'\n\n"
        f'{sys.executable} -c "{python}"\n\n'
        f"curl -N {url}/chat/completions{headers} -d '{streamed}'\n"
    )


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - not bound here, only shown
        return "localhost"
    return f"[{host}]" if ":" in host else host
