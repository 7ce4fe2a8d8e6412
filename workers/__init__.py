"""The flow: composes the model core and the tables. events -> router -> ledger -> batcher -> engine -> writer."""
