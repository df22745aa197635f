"""Real kernel sockets on both ends: what runs inside the lab's namespaces as processes of its own.

Only the standard library is imported here: these processes should start fast and cost little.
"""
