"""The flow composes the model core and the tables: router -> ledger -> batcher -> engine -> writer."""
