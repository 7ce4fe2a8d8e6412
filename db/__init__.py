"""The tables and every statement that touches them. Knows no GPU, no broker, no model core."""
