"""What a starting gateway says of itself: who is there, who is not, and lines to paste."""

import asyncio

import click

from mana_llm.compose import Application
from mana_llm.edge.server import Server

STARTED_S = 10.0


async def tell_what_is_there(application: Application, server: Server) -> None:
    """Wait until the gateway listens, ask every configured provider for its models, and print a table."""
    async with asyncio.timeout(STARTED_S):
        # uvicorn's server has no event for it.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await application.models.refresh()
    click.echo(table(application))
    click.echo(lines_to_paste(application))


def table(application: Application) -> str:
    """The providers, a row each, and the aliases with the entries that can answer now."""
    lists = application.models.lists()
    rows = [("provider", "state", "models")]
    for name, entry in application.entries.items():
        problem = application.models.problem(name)
        if entry.provider is None:
            rows.append((name, "not configured", entry.hint))
        elif name in lists:
            some = ", ".join(model.id for model in lists[name][:3])
            rows.append((name, "ready", f"{len(lists[name])}: {some}" if some else "none"))
        else:
            rows.append((name, "no answer", problem or "its models list did not come in time"))
    for alias in application.aliases.aliases:
        chain = [target.label for target in alias.chain if application.entries[target.provider].provider]
        rows.append((alias.name, "alias", " > ".join(chain) or "no entry of its chain is configured"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows)


def lines_to_paste(application: Application) -> str:
    """curl, openai-python, and a stream."""
    settings = application.settings
    url = f"http://{_reachable(settings.host)}:{settings.port}/v1"
    model = application.aliases.default
    key = "$GPU_API_KEY" if settings.caller_keys else "none"
    auth = f' -H "Authorization: Bearer {key}"' if settings.caller_keys else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    streamed = body[:-1] + ', "stream": true}'
    json_type = ' -H "Content-Type: application/json"'
    python = (
        f"import openai; print(openai.OpenAI(base_url='{url}', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[dict(role='user', content='Hello')]).choices[0].message.content)"
    )
    return "\n".join(
        (
            f"\nListening on {url}. Paste one of these:\n",
            f"curl {url}/chat/completions{auth}{json_type} -d '{body}'\n",
            f'python3 -c "{python}"\n',
            f"curl -N {url}/chat/completions{auth}{json_type} -d '{streamed}'\n",
        )
    )


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - not bound here, only shown
        return "localhost"
    return f"[{host}]" if ":" in host else host
