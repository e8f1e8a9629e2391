"""What stands beside the gateway: nginx as the provider, and nginx as the proxy that the gateway is compared with.

nginx alone cannot be told by the body what to answer, so each kind of answer has a server of its own.
"""

import os
import sys
from pathlib import Path
from typing import Final

from benchmarks import payloads
from benchmarks.machine import tool

CHAT_PATH: Final = "/v1/chat/completions"
PACE_S: Final = 0.005
"""Seconds between two chunks of a paced stream: 200 tokens per second, as fast models write."""

# nginx reads a parameter of at most 4,096 bytes from its configuration.
_PARAMETER_BYTES_MAX: Final = 3_900

# Bodies stay in memory, as they do in the gateway: by default nginx would write the image to the disk.
_COMMON: Final = """
worker_processes 1; daemon off; pid nginx.pid; error_log stderr crit; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;
  client_max_body_size 20m; client_body_buffer_size 4m; default_type application/json;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  {servers}
}}
"""

# The request's body is read to its end before the answer, by way of a second request that nginx makes of itself;
# `return` alone answers when the head has come.
_PROVIDER: Final = """
server {{
  listen 127.0.0.1:{plain};
  location = /v1/models {{ return 200 '{models}'; }}
  location = {chat} {{ return 200 '{answer}'; }}
  location = /api/chat {{ return 200 '{ollama}'; }}
  location /v1beta/ {{ return 200 '{gemini}'; }}
}}
server {{
  listen 127.0.0.1:{image};
  location = /v1/models {{ return 200 '{models}'; }}
  location = {chat} {{
    proxy_pass http://127.0.0.1:{plain}; proxy_pass_request_body off; proxy_set_header Content-Length "";
  }}
  location = /api/show {{ return 200 '{{"capabilities":["completion","vision"]}}'; }}
  location = /api/chat {{
    proxy_pass http://127.0.0.1:{plain}; proxy_pass_request_body off; proxy_set_header Content-Length "";
  }}
  location /v1beta/ {{
    proxy_pass http://127.0.0.1:{plain}; proxy_pass_request_body off; proxy_set_header Content-Length "";
  }}
}}
server {{
  listen 127.0.0.1:{batched};
  location = /v1/models {{ return 200 '{models}'; }}
  location = {chat} {{ default_type text/event-stream; {pieces} return 200 "{names}"; }}
}}
"""

_PROXY: Final = """
upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
server {{
  listen 127.0.0.1:{port};
  location = /livez {{ return 200; }}
  location / {{
    proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering {buffering};
  }}
}}
"""


def provider_command(folder: Path, ports: dict[str, int]) -> list[str]:
    """The provider, by nginx: `ports` names where it answers `plain`, `image` and `batched`.

    A batched answer is a stream that comes in one piece.
    """
    stream = payloads.whole_stream().decode()
    pieces = [stream[at : at + _PARAMETER_BYTES_MAX] for at in range(0, len(stream), _PARAMETER_BYTES_MAX)]
    servers = _PROVIDER.format(
        **ports,
        chat=CHAT_PATH,
        models=payloads.models().decode(),
        answer=payloads.answer().decode(),
        ollama=payloads.ollama_answer().decode(),
        gemini=payloads.gemini_answer().decode(),
        pieces="\n".join(f"set $piece{number}x '{piece}';" for number, piece in enumerate(pieces)),
        names="".join(f"${{piece{number}x}}" for number in range(len(pieces))),
    )
    return _nginx(folder, servers)


def proxy_command(folder: Path, port: int, upstream: int, *, streams: bool) -> list[str]:
    """A proxy, by nginx, on `port` for the provider at `upstream`; without buffering where it relays streams."""
    return _nginx(folder, _PROXY.format(port=port, upstream=upstream, buffering="off" if streams else "on"))


def pacer_command(port: int) -> list[str]:
    """The provider whose chunks come one by one."""
    return [sys.executable, "-m", "benchmarks.pacer", str(port), str(payloads.STREAM_CHUNKS), str(PACE_S)]


def _nginx(folder: Path, servers: str) -> list[str]:
    folder.mkdir()
    # Started by root, a worker would become a user who may not enter our folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_COMMON.format(user=user, servers=servers), encoding="utf-8")
    return [tool("nginx"), "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
