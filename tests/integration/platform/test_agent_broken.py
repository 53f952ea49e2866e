"""An agent of which a part has failed ends, so that it is begun again; it does not go on minding half a region."""

import asyncio
from pathlib import Path

import pytest

from fivenines.platform.local import agent
from fivenines.platform.local.edging import Edging
from fivenines.platform.spec import Platform, Region
from fivenines.platform.topology import make_topology
from tests.e2e.platforms import free_network


def test_an_agent_ends_by_an_error_of_what_it_does_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Platform(platform="bank", regions=(Region(name="frankfurt", provider="local", nodes=1),))
    topology = make_topology(spec, tmp_path / "p", home=tmp_path, network=free_network())
    topology.path.mkdir()
    topology.write()

    async def fail(_edging: Edging) -> None:
        raise LookupError("a mistake of ours")

    monkeypatch.setattr(agent, "programs", lambda *_: [])
    monkeypatch.setattr(Edging, "reconcile", fail)

    async def whole() -> None:
        async with asyncio.timeout(30):
            await agent.serve_agent(topology, "frankfurt", before=(), on_ready=lambda _url: None)

    with pytest.raises(agent.AgentBrokenError, match="keeping the edge told: LookupError"):
        asyncio.run(whole())
    assert "agent.broken" in (tmp_path / "p" / "platform.log").read_text()
