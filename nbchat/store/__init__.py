"""Records on disk: the ledger of costs, and the journal of answers that are still arriving."""
