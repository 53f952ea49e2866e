"""A node whose state is not that of the others finds out, says so, and begins anew from what the others hold."""

import asyncio
from pathlib import Path

from fivenines.drill.histories import Clients
from tests.integration.regions.fleet import regions, wait_until
from tests.integration.regions.loads import TRIMMING, Bulk, check_all_is_well


def test_a_node_that_differs_stops_serving_says_so_and_rebuilds_itself_from_anothers_snapshot(tmp_path: Path) -> None:
    async def main() -> None:
        async with regions(tmp_path, options=TRIMMING) as fleet:
            await fleet.start()
            bulk, clients = Bulk(fleet), Clients(fleet.urls, deadline_s=60.0)
            await bulk.open()
            await clients.open()
            await bulk.write_until_trimmed()

            wrong = fleet.nodes[1]
            await wrong.stop()
            position, _ = await fleet.agreed_among(fleet.nodes[0], fleet.nodes[2])
            wrong.plant(wrong_position=position + 30)
            await wrong.start()
            said: set[str] = set()

            async def says_that_it_does_not_serve() -> bool:
                response = await fleet.http.get(f"{wrong.url}/v1/accounts/mint")
                if response.status_code == 503:
                    problem = response.json()
                    said.add(problem["type"])
                    return "differs from that of the majority" in problem["detail"]
                return False

            async with clients.working():
                await wait_until(says_that_it_does_not_serve, "it says that it does not serve")
                await clients.wait_answered(300)
            assert said == {"/problems/out_of_service"}
            await check_all_is_well(fleet, clients)
            await bulk.check_nothing_is_lost()
            assert len(wrong.events("snapshot.fetched")) == 1
            balances = [(await fleet.http.get(f"{url}/v1/accounts/mint")).json()["balance"] for url in fleet.urls]
            assert len(set(balances)) == 1

    asyncio.run(main())
