"""A user's module for tests: its functions write down what they do, and do as the transaction's reference says."""

import json
import os
import time
from pathlib import Path

import fivenines
from fivenines.api import Event

FOLDER = Path(os.environ["RECORDING_FOLDER"])
LOG = os.open(FOLDER / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, function: str, event: Event, context: fivenines.Context) -> None:
    """Write one line, whole."""
    accounts = sorted({account for each in event.data.postings for account in (each.source, each.destination)})
    line = {
        "what": what,
        "function": function,
        "event": context.event_id,
        "place": [context.position, context.item],
        "attempt": context.attempt,
        "is_replay": context.is_replay,
        "subject": event.subject,
        "accounts": accounts,
        "process": os.getpid(),
        "runner": os.getppid(),
    }
    os.write(LOG, json.dumps(line).encode() + b"\n")


def wait_for(name: str) -> None:
    """Wait until a file of this name is there."""
    while not (FOLDER / name).exists():
        time.sleep(0.005)


@fivenines.on("transaction.posted", where={"account": "functions:"})
def record(event: Event, context: fivenines.Context) -> None:
    """Do as the reference says."""
    note("begin", "record", event, context)
    match event.data.reference:
        case "hold" | "fail" as name if name == "hold" or not (FOLDER / "mended").exists():
            if name == "fail":
                raise RuntimeError("as the reference says")
            wait_for("go")
        case "hang" if context.attempt == 1:
            time.sleep(1_000)
        case "exit" if context.attempt == 1:
            os._exit(3)
    note("end", "record", event, context)


@fivenines.on("transaction.posted", where=lambda event: event.data.reference == "odd")
async def odd(event: Event, context: fivenines.Context) -> None:
    """Be an `async def` with a function for a condition."""
    note("end", "odd", event, context)
