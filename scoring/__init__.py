"""The model core: text in, scores out. Knows no broker, no database, no environment variable."""
