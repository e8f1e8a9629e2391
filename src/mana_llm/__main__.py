"""`python -m mana_llm`."""

from mana_llm.cli import main

main()
