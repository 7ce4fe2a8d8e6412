"""How an item gets its scorer: folds, adapter and head fitted on the frozen backbone, and their worth."""
