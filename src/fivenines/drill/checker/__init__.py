"""The checker: keeps what clients were told, asks everybody else, believes nobody, and says what is wrong.

    evidence = await gather(platform, asked)
    judgement = judge(evidence)

`gather` asks a running platform: every node, the event feed of each, every historian, SQL, every archive, the journal.
`judge` is pure. A finding names its guarantee, and tells the smallest history that shows what is wrong.

    evidence       what the witnesses said, as values
    course         what the journal comes to, worked out by code of our own
    case           both, in the orders that rules ask for
    rules/         a file for each family of rules: answers, order, reads, books, holds, histories, searching
    telling        histories for people, as small as they can be
    judging        hears all the rules
    gathering      asks a running platform; sampling does so while the load runs
    stretches      what clients noticed in a stretch of time
    books          the judge of the demo, whose books state by themselves what is right
"""

from fivenines.drill.checker.evidence import ArchiveSaid, Effected, Evidence, FeedSaid, NodeSaid, SqlSaid, Told
from fivenines.drill.checker.gathering import Places, gather, gather_from, places_of
from fivenines.drill.checker.judging import JUDGED, Judgement, judge
from fivenines.drill.checker.sampling import Sampling
from fivenines.drill.checker.stretches import Stretch, stretch

__all__ = [
    "JUDGED",
    "ArchiveSaid",
    "Effected",
    "Evidence",
    "FeedSaid",
    "Judgement",
    "NodeSaid",
    "Places",
    "Sampling",
    "SqlSaid",
    "Stretch",
    "Told",
    "gather",
    "gather_from",
    "judge",
    "places_of",
    "stretch",
]
