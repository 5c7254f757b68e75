"""`make bench`: what the forms cost against a peer, the plain form or a limit in the same run."""
