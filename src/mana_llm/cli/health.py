"""`mana-llm health`: asks a running gateway, for people and for container health checks."""

import json
import sys
import urllib.error
import urllib.request

import click

from mana_llm.cli.environment import settings_here

TIMEOUT_S = 3.0


@click.command(short_help="Ask a running gateway for its health.")
def command() -> None:
    """Print /health of the gateway on this machine's PORT; exit 1 if it does not answer."""
    settings = settings_here()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "localhost") else settings.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{settings.port}/health"
    try:
        # This machine's own gateway is never behind a proxy, whatever HTTP_PROXY says.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=TIMEOUT_S) as response:
            click.echo(json.dumps(json.load(response), indent=2))
    except (OSError, ValueError) as error:
        click.echo(f"mana-llm: {url} does not answer ({type(error).__name__}). Is the gateway running?", err=True)
        sys.exit(1)
