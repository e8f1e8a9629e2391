"""`mana-llm explain`: which entry of an alias would answer now, and why not the others."""

from typing import Final
from urllib.parse import quote

import click

from mana_llm.cli.asking import ask
from mana_llm.cli.environment import settings_here

TIMEOUT_S: Final = 30.0
HEADINGS: Final = ("entry", "decision", "reason", "detail")


@click.command(short_help="Say which entry of an alias would answer now, and why.")
@click.argument("alias")
@click.option("--tools", is_flag=True, help="For a request that offers tools.")
@click.option("--image", is_flag=True, help="For a request with an image.")
@click.option("--json", "json_", is_flag=True, help="For a request that wants JSON of a given schema.")
@click.option("--audio", is_flag=True, help="For a request with sound.")
@click.option("--stream", is_flag=True, help="For a request that wants its answer streamed.")
def command(alias: str, **features: bool) -> None:
    """Ask the gateway on this machine's PORT what it would do with a request for ALIAS, such as mana/reasoning.

    Exit code 0 if somebody would answer, if need be after a wait, 1 if nobody would.
    """
    from mana_llm.cli.table import print_table

    query = "&".join(name.rstrip("_") for name, given in features.items() if given)
    path = f"/v1/aliases/{quote(alias, safe='/')}/explain"
    told = ask(settings_here(), "GET", f"{path}?{query}" if query else path, TIMEOUT_S)
    rows = [(row["model"], row["decision"], row["reason"] or "", row["detail"] or "") for row in told["chain"]]
    print_table(HEADINGS, rows, {})
    if told["answers"] is None:
        click.echo(f"\nNobody would answer {alias} now.", err=True)
        raise SystemExit(1)
    wait_s, hedge_s = told["expected_wait_s"], told["hedge_after_s"]
    wait = "" if wait_s is None else f", after a wait of about {wait_s:.1f} s"
    hedge = "" if hedge_s is None else f", another as well after {hedge_s:g} s of silence"
    click.echo(f"\n{told['answers']} would be asked first{wait}{hedge} (aliases {told['version']}).")
