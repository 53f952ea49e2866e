"""Where places are, and how long light takes between them: pure, and only as good as a map.

Round trips are reckoned, not measured: the great circle (haversine formula, R. W. Sinnott, "Virtues of the
Haversine", Sky & Telescope 68, 1984) is what a straight cable would be. Real ones go along roads, coasts and sea
floors: we reckon with 1.4 times the great circle. Light in fibre does 200,000 km/s, two thirds of that in a vacuum. So
1,000 km there and back take 14 ms, plus half a millisecond for switches at both ends.
"""

from math import asin, cos, radians, sin, sqrt
from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["PLACES", "Point", "kilometres", "place", "round_trip_ms"]

EARTH_KM = 6_371.0
"""The mean radius."""
FIBRE_KM_PER_S = 200_000.0
DETOUR = 1.4
"""How much longer the cable is than the great circle."""
SWITCHES_MS = 0.5
"""A round trip between two buildings of one city."""


class Point(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place on the map."""

    latitude: Annotated[float, Meta(ge=-90, le=90)]
    """In degrees, north."""
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    """In degrees, east."""


_CITIES: dict[str, tuple[float, float, tuple[str, ...]]] = {
    # place: latitude, longitude, what clouds call their region there (AWS, Google Cloud, Azure)
    "amsterdam": (52.37, 4.90, ("europe-west4", "westeurope")),
    "atlanta": (33.75, -84.39, ("us-east5-atl",)),
    "bangkok": (13.76, 100.50, ("ap-southeast-7",)),
    "belgium": (50.45, 3.82, ("europe-west1", "belgiumcentral")),
    "berlin": (52.52, 13.40, ("europe-west10",)),
    "cape-town": (-33.92, 18.42, ("af-south-1",)),
    "chicago": (41.88, -87.63, ("northcentralus",)),
    "dallas": (32.78, -96.80, ("us-south1", "southcentralus")),
    "delhi": (28.61, 77.21, ("asia-south2",)),
    "dubai": (25.20, 55.27, ("me-central-1", "uaenorth")),
    "dublin": (53.35, -6.26, ("eu-west-1", "northeurope")),
    "falkenstein": (50.48, 12.37, ("fsn1",)),
    "finland": (60.57, 27.19, ("europe-north1",)),
    "frankfurt": (50.11, 8.68, ("eu-central-1", "europe-west3", "germanywestcentral")),
    "gavle": (60.67, 17.14, ("swedencentral",)),
    "helsinki": (60.17, 24.94, ("hel1",)),
    "hong-kong": (22.32, 114.17, ("ap-east-1", "asia-east2", "eastasia")),
    "hyderabad": (17.39, 78.49, ("ap-south-2",)),
    "iowa": (41.26, -95.86, ("us-central1", "centralus")),
    "jakarta": (-6.21, 106.85, ("ap-southeast-3", "asia-southeast2")),
    "johannesburg": (-26.20, 28.05, ("africa-south1", "southafricanorth")),
    "las-vegas": (36.17, -115.14, ("us-west4",)),
    "london": (51.51, -0.13, ("eu-west-2", "europe-west2", "uksouth")),
    "los-angeles": (34.05, -118.24, ("us-west2",)),
    "madrid": (40.42, -3.70, ("europe-southwest1", "spaincentral")),
    "melbourne": (-37.81, 144.96, ("ap-southeast-4", "australia-southeast2", "australiasoutheast")),
    "mexico": (20.59, -100.39, ("mx-central-1", "northamerica-south1", "mexicocentral")),
    "milan": (45.46, 9.19, ("eu-south-1", "europe-west8", "italynorth")),
    "montreal": (45.50, -73.57, ("ca-central-1", "northamerica-northeast1")),
    "mumbai": (19.08, 72.88, ("ap-south-1", "asia-south1", "westindia")),
    "n-california": (37.35, -121.96, ("us-west-1", "westus")),
    "n-virginia": (39.04, -77.49, ("us-east-1", "us-east4", "eastus")),
    "nuremberg": (49.45, 11.08, ("nbg1",)),
    "ohio": (39.96, -83.00, ("us-east-2", "us-east5")),
    "oregon": (45.60, -121.18, ("us-west-2", "us-west1")),
    "osaka": (34.69, 135.50, ("ap-northeast-3", "asia-northeast2", "japanwest")),
    "oslo": (59.91, 10.75, ("norwayeast",)),
    "paris": (48.86, 2.35, ("eu-west-3", "europe-west9", "francecentral")),
    "pune": (18.52, 73.86, ("centralindia",)),
    "santiago": (-33.45, -70.67, ("southamerica-west1", "chilecentral")),
    "sao-paulo": (-23.55, -46.63, ("sa-east-1", "southamerica-east1", "brazilsouth")),
    "seattle": (47.61, -122.33, ("westus2",)),
    "seoul": (37.57, 126.98, ("ap-northeast-2", "asia-northeast3", "koreacentral")),
    "singapore": (1.35, 103.82, ("ap-southeast-1", "asia-southeast1", "southeastasia")),
    "south-carolina": (33.20, -80.01, ("us-east1",)),
    "stockholm": (59.33, 18.07, ("eu-north-1", "europe-north2")),
    "sydney": (-33.87, 151.21, ("ap-southeast-2", "australia-southeast1", "australiaeast")),
    "taiwan": (24.05, 120.52, ("asia-east1", "taiwannorth")),
    "tel-aviv": (32.09, 34.78, ("il-central-1", "me-west1", "israelcentral")),
    "tokyo": (35.68, 139.69, ("ap-northeast-1", "asia-northeast1", "japaneast")),
    "toronto": (43.65, -79.38, ("northamerica-northeast2", "canadacentral")),
    "turin": (45.07, 7.69, ("europe-west12",)),
    "virginia": (37.37, -79.82, ("eastus2",)),
    "warsaw": (52.23, 21.01, ("europe-central2", "polandcentral")),
    "zurich": (47.38, 8.54, ("eu-central-2", "europe-west6", "switzerlandnorth")),
}

PLACES: dict[str, Point] = {
    name: Point(latitude=latitude, longitude=longitude)
    for city, (latitude, longitude, clouds) in _CITIES.items()
    for name in (city, *clouds)
}
"""Well-known places: cities, and the regions of clouds by their own names."""


def place(name: str) -> Point | None:
    """Return where a well-known place is, or None."""
    return PLACES.get(name.lower().replace(" ", "-").replace("_", "-"))


def kilometres(a: Point, b: Point) -> float:
    """Return the length of the great circle between two places."""
    north_a, north_b = radians(a.latitude), radians(b.latitude)
    half_chord = (
        sin((north_b - north_a) / 2) ** 2
        + cos(north_a) * cos(north_b) * sin(radians(b.longitude - a.longitude) / 2) ** 2
    )
    return 2 * EARTH_KM * asin(sqrt(min(1.0, half_chord)))


def round_trip_ms(a: Point, b: Point) -> float:
    """Return how long it takes there and back, at the least that one should count on."""
    return SWITCHES_MS + 2 * 1_000 * kilometres(a, b) * DETOUR / FIBRE_KM_PER_S
