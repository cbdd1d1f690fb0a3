"""A small server that speaks chat completions on a thread, and misbehaves when it is told to."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


class ChatServer:
    """Answers with `reply(question, pictures)`, after `faults` have each been served once, first to last.

    A fault is (status, headers, body); a body of None closes the connection, a callable is given the handler.

    Attributes:
        bodies: what was asked, in order.
        headers: of each request.
        at_once: the most requests that were under way together.
    """

    def __init__(self, reply: Callable[[str, list[np.ndarray]], Any]) -> None:
        self.reply = reply
        self.faults: list[tuple[int, dict[str, str], Any]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.at_once = self._now = 0
        self.logprobs = True
        self.delay = 0.0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
            fault = self.faults.pop(0) if self.faults else None
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        if fault is None:
            time.sleep(self.delay)
        content = json.dumps(self.answer(body)).encode() if fault is None else fault[2]
        with self._lock:  # before it answers: then the next request may come at once
            self._now -= 1
        if fault is None:
            found = handler.path == "/v1/chat/completions"
            self.send(handler, 200 if found else 404, {}, content if found else b"no such page")
        elif callable(content):
            content(handler)
        else:
            self.send(handler, fault[0], fault[1], content)

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        parts = body["messages"][0]["content"]
        pictures = []
        for part in parts[:-1]:
            kind, _, data = part["image_url"]["url"].partition(",")
            assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            assert picture.format.lower() in kind
            pictures.append(np.asarray(picture))
        text = self.reply(parts[-1]["text"], pictures)
        message = text if isinstance(text, dict) else {"role": "assistant", "content": text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if self.logprobs and body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -0.1}]}
        return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
