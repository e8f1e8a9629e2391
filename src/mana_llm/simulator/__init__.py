"""A program that plays the upstreams, faithfully and with every trap: Ollama, OpenAI-compatible and Gemini.

`Simulator` is the listener; a `Script` with a `Fault` tells it what to answer; `names` is the grammar of
scripts inside model names; `control` is the endpoint that sets scripts over HTTP.
"""

from mana_llm.simulator.log import LogEntry
from mana_llm.simulator.names import BadNameError, script_in
from mana_llm.simulator.script import Fault, Script, ToolCall, Usage
from mana_llm.simulator.server import Simulator, serve

__all__ = [
    "BadNameError",
    "Fault",
    "LogEntry",
    "Script",
    "Simulator",
    "ToolCall",
    "Usage",
    "script_in",
    "serve",
]
