"""`make bench` and `make bench-gpu`: every measurement beside a peer, the reference implementation or a limit.

A row states what was measured, our value, the peer's or the limit's value in the same unit, and their ratio; a ratio
above 1 means that ours is better. Peer and ours are measured in the same run, in turns.
"""
