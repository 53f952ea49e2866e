"""A server whose health is a file: it answers /live and /ready with what stands there. Run by tests of supervising."""

import http.server
import signal
import sys
import threading
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 200, or 503 where a file of that name is."""

    def do_GET(self) -> None:
        """Answer."""
        is_ill = (Path(sys.argv[2]) / self.path.strip("/")).exists()
        self.send_response(503 if is_ill else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def main() -> None:
    """Serve until SIGTERM; `stubborn` in the folder makes it deaf to that."""
    folder = Path(sys.argv[2])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)

    def stop(*_: object) -> None:
        if not (folder / "stubborn").exists():
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    sys.stdout.write('{"event": "serving"}\n')
    sys.stdout.flush()
    with (folder / "starts").open("a") as starts:
        starts.write("x")
    server.serve_forever()


if __name__ == "__main__":
    main()
