"""What controllers are told of a platform: the parts of `Desired` that follow from `platform.yaml` alone."""

from fivenines.control.desired import Desired, DesiredRegion, DesiredWorkload, Order
from fivenines.platform.spec import Platform

__all__ = ["to_desired"]


def to_desired(
    platform: Platform, *, workloads: tuple[DesiredWorkload, ...] = (), orders: tuple[Order, ...] = ()
) -> Desired:
    """Return what should be.

    A region that only holds a member of the journal is among the regions, as its controller sees the others and has a
    voice; it has no weight and no capacity.

    Args:
        platform: what was declared.
        workloads: every process, from the topology.
        orders: of operators.
    """
    regions = tuple(
        DesiredRegion(
            name=region.name,
            provider=region.provider,
            mode=region.mode,
            weight=region.weight if region.nodes else 0.0,
            capacity_per_s=platform.capacity_per_s(region) if region.nodes else 0.0,
            rank=rank,
        )
        for rank, region in enumerate(platform.regions)
    )
    return Desired(
        platform=platform.platform,
        regions=regions,
        workloads=workloads,
        orders=orders,
        slo=platform.slo,
        peak_per_s=platform.peak_per_s,
        downtime_cost_per_s=platform.downtime_cost_per_hour / 3_600,
        currency=platform.currency,
        timings=platform.timings,
    )
