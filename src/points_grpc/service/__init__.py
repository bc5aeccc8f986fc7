"""How commands meet the rules and the storage: the executor, the committer, reads, and outbox dispatch."""
