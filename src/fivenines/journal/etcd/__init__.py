"""The etcd journal: one journal for many nodes, in any number of regions, on a Raft quorum that is not ours to write.

Needs the extra `etcd` (gRPC); nothing outside this package imports it. Begin with `journal`, the `Journal` itself;
`layout` has the keys and values, `chain` makes frames of them, `lanes` writes them, `reading` reads them back,
`trimming` lets go of them, `founding` begins and ends journals, `members` watches over etcd, `client` speaks to it, and
`outside` is all that leads out of here, for a simulator to take its place.

**Order.** A frame is one key, or a few for a long payload (*pieces*), written once under a number that nobody uses
again. The frames' order is that of the etcd revisions that completed them, which a Raft majority decided and which is
the same for every reader for ever. So any process appends, through any member, without a lock or a leader of ours.

**Positions** are not written anywhere: a position is the number of frames up to there. Each reader counts, and chains
the digest of `fivenines.journal.format`, from a **place**: position, digest, and for each lane the number of its last
piece before. The *base* is the place that the journal begins after, and *marks* are places on the way, so a reader of
the end need not read it all. Trimming moves the base to a mark and deletes what is before; so it cannot move a
position. Compaction makes etcd forget what was deleted, and nothing that is in the journal: it can break a watch, and
then the keys are read. Only who needs frames that were trimmed gets a `TrimmedError`, and goes on from a snapshot.

**Exactly once.** An append is a transaction that compares the number of the newest piece in the writer's **lane**. So
it can be repeated, at any member, when its answer is lost, and an attempt that arrives late changes nothing. It is
answered when the journal's own watch brings the frame: by then a majority has it on disk, and its position is known.

**Epochs.** The same transaction compares the epoch. A journal that is rebuilt in a new etcd begins there in the next
epoch, at the position and digest where it ended: positions keep their meaning, and writers of the old one are refused.

**Bounds.** etcd is not a place for everything: the node trims behind its snapshots, and well before etcd's quota is
reached appends are refused with `JournalFullError`. A member keeps 5,000 entries and `--snapshot-count` more in memory
whatever their size, so long payloads are cut into pieces of 64 KiB; run members with `--snapshot-count=1000`.
"""

from fivenines.journal.etcd._environment import FORK_SUPPORT
from fivenines.journal.etcd.errors import (
    EtcdRefusedError,
    JournalExistsError,
    JournalFencedError,
    JournalMissingError,
    JournalUnreachableError,
)
from fivenines.journal.etcd.founding import check_free, fence, found
from fivenines.journal.etcd.journal import EtcdJournal
from fivenines.journal.etcd.outside import Outside
from fivenines.journal.etcd.settings import EtcdJournalSettings, EtcdTls

assert FORK_SUPPORT is not None  # imported for what it does, before anything imports gRPC

__all__ = [
    "EtcdJournal",
    "EtcdJournalSettings",
    "EtcdRefusedError",
    "EtcdTls",
    "JournalExistsError",
    "JournalFencedError",
    "JournalMissingError",
    "JournalUnreachableError",
    "Outside",
    "check_free",
    "fence",
    "found",
]
