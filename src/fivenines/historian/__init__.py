"""The historian: it follows the journal and keeps history: segments and snapshots in object storage, SQL, events."""
