"""What a client saw of one answer. Read by hand, so that no mistake of a gateway's own reader is shared."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

Ended = Literal["complete", "cut", "hung", "refused"]


@dataclass
class Seen:
    """One answer; instants are seconds since the request was sent, -1.0 where there was none.

    `ended`: complete; cut, the connection ended within the answer; hung, the client lost patience; refused, the
    connection ended or failed without an answer. `junk` counts events or bodies that are no JSON object. `tidy` is
    whether the stream's end marker is there once and last, and an error, if any, stands right before it.
    """

    status: int = 0
    text: str = ""
    finishes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    junk: int = 0
    done: bool = False
    tidy: bool = False
    ended: Ended = "refused"
    first_s: float = -1.0
    last_s: float = -1.0
    error_s: float = -1.0
    end_s: float = -1.0
    silence_s: float = 0.0


class Reader:
    """Reads the body of an answer as its pieces come, into `seen`."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._streamed = False
        self._rest = b""
        self._marks: list[str] = []

    def head(self, status: int, content_type: str) -> None:
        """Take the head."""
        self._seen.status = status
        self._streamed = content_type.partition(";")[0].strip().lower() == "text/event-stream"

    def feed(self, data: bytes, at_s: float) -> None:
        """Take a piece of the body."""
        self._rest += data
        if not self._streamed:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), at_s)

    def end(self, at_s: float) -> None:
        """Take the end, however it came."""
        seen = self._seen
        seen.end_s = at_s
        if not self._streamed:
            if self._rest:
                self._message(_object(self._rest), "message", at_s)
            return
        # The last line may have no end; half of one is no JSON.
        self.feed(b"\n", at_s)
        expected = ["error", "done"] if seen.errors else ["done"]
        seen.tidy = self._marks[-len(expected) :] == expected and self._marks.count("done") == 1

    def _event(self, data: bytes, at_s: float) -> None:
        if data == b"[DONE]":
            self._seen.done = True
            self._marks.append("done")
            return
        before = len(self._seen.errors)
        self._message(_object(data), "delta", at_s)
        self._marks.append("error" if len(self._seen.errors) > before else "chunk")

    def _message(self, body: dict[str, Any] | None, part: str, at_s: float) -> None:
        seen = self._seen
        if body is None:
            seen.junk += 1
            return
        if body.get("error"):
            seen.errors.append(_name(body["error"]))
            seen.error_s = at_s
        for choice in body.get("choices") or ():
            text = (choice.get(part) or {}).get("content")
            if text:
                seen.text += str(text)
                seen.first_s = at_s if seen.first_s < 0 else seen.first_s
                seen.last_s = at_s
            if choice.get("finish_reason"):
                seen.finishes.append(choice["finish_reason"])


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(data)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _name(error: Any) -> str:
    """The shortest word that an error gives for itself."""
    if not isinstance(error, dict):
        return str(error)[:40]
    return str(error.get("code") or error.get("type") or error.get("message") or "unnamed")[:40]
