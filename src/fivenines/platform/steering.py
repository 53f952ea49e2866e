"""What a region's nameserver is to answer by as it was declared, before any controller has looked at anything. Pure."""

from fivenines.platform.topology import Topology
from fivenines.traffic.table import GeoPrefix, SteeredRegion, SteeringTable

__all__ = ["declared_table"]

LEDGER = "api"
"""The name below the zone under which the ledger is."""


def declared_table(topology: Topology, region: str) -> SteeringTable:
    """Return the table of a region: active regions get their share, those on standby none."""
    spec, traffic = topology.spec, topology.spec.traffic
    declared = {each.name: each for each in spec.regions}
    regions = []
    for rank, place in enumerate(each for each in topology.regions if each.nodes):
        wanted = declared[place.name]
        regions.append(
            SteeredRegion(
                name=place.name,
                addresses=(place.host,),
                nameserver=place.host,
                weight=wanted.weight,
                share=1.0 if wanted.mode == "active" else 0.0,
                rank=rank,
                latitude=wanted.point.latitude if wanted.point else None,
                longitude=wanted.point.longitude if wanted.point else None,
            )
        )
    networks = tuple(
        GeoPrefix(network=each.network, latitude=each.point.latitude, longitude=each.point.longitude)
        for each in traffic.networks
        if each.point is not None
    )
    return SteeringTable(
        zone=spec.zone,
        serial=1,
        here=region,
        policy=traffic.policy,
        ttl_s=traffic.ttl_s,
        answers_max=traffic.answers_max,
        names=(LEDGER, *(service.name for service in spec.services)),
        regions=tuple(regions),
        networks=networks,
    )
