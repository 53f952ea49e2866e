"""Asking a process how it is: by HTTP, or whether it takes a connection at all."""

import asyncio

import httpx

from fivenines.client.shell import unused_tls
from fivenines.platform.local.program import Probe

__all__ = ["Prober"]


class Prober:
    """Asks the probes of one region's processes."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(
            trust_env=False, verify=unused_tls(), limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def ask(self, host: str, probe: Probe) -> str:
        """Return what is wrong, or an empty string."""
        try:
            async with asyncio.timeout(probe.timeout_s):
                if not probe.path:
                    _, writer = await asyncio.open_connection(host, probe.port)
                    writer.close()
                    return ""
                answer = await self._http.get(f"http://{host}:{probe.port}{probe.path}")
        except TimeoutError:
            return f"{probe.path or 'a connection'}: no answer within {probe.timeout_s:g} s"
        except (OSError, httpx.HTTPError) as error:
            return f"{probe.path or 'a connection'}: {str(error) or type(error).__name__}"
        if answer.status_code < 400:
            return ""
        return f"{probe.path}: HTTP status {answer.status_code}: {answer.text[:200]}"

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
