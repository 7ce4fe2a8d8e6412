"""How well machine levels agree with human ones, how sure that is, and whether it is good enough."""
