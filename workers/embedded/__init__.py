"""A real Postgres and a real Redis-protocol server without Docker, root or a network port.

Between the command line (or a test run) and two server binaries pass one data folder, called home, and two
URLs. This room knows no table, no task and no environment variable. Start reading at `services`.
"""
