"""Files in, rows out: one small file a format, and one a kind of row. Knows no database, no broker."""
