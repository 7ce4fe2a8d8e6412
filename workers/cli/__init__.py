"""The command `scorefold`. Each verb parses, calls one function of another room, and prints.

Heavy libraries are imported inside verbs: `scorefold --help` starts without torch.
"""

from workers.cli.main import app, main

__all__ = ["app", "main"]
