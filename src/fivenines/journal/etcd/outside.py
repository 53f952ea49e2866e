"""The outside: all that the journal in etcd has to do with the world, in one place, so that a simulator can be it.

Connections, the clock of whoever reads in a thread, and chance. What runs on an event loop takes that loop's time.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from msgspec import Struct

from fivenines.journal.etcd.settings import EtcdTls

__all__ = ["OUTSIDE", "Outside"]

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def _credentials(tls: EtcdTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.authorities.read_bytes() if tls.authorities else None,
        private_key=tls.key.read_bytes() if tls.key else None,
        certificate_chain=tls.certificate.read_bytes() if tls.certificate else None,
    )


def _blocking_channel(endpoint: str, tls: EtcdTls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(endpoint, options=_OPTIONS)
    return grpc.secure_channel(endpoint, _credentials(tls), options=_OPTIONS)


def _channel(endpoint: str, tls: EtcdTls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(endpoint, options=_OPTIONS)
    return grpc.aio.secure_channel(endpoint, _credentials(tls), options=_OPTIONS)


class Outside(Struct, frozen=True, kw_only=True):
    """What leads out of the journal's code."""

    channel: Callable[[str, EtcdTls | None], Any] = _channel
    """Makes a `grpc.aio.Channel` to an endpoint, for the event loop."""
    blocking_channel: Callable[[str, EtcdTls | None], Any] = _blocking_channel
    """Makes a `grpc.Channel` to an endpoint, for any thread."""
    clock: Callable[[], float] = time.monotonic
    """In seconds, from anywhere; for threads."""
    sleep: Callable[[float], None] = time.sleep
    """For threads."""
    random_bytes: Callable[[int], bytes] = os.urandom


OUTSIDE = Outside()
"""The real one."""
