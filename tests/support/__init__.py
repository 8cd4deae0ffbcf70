"""The parts that several kinds of tests share: a server, and waiting."""
