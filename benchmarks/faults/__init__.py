"""The scorecard: sixteen faults of an upstream, and what a client of a gateway before it sees of each.

Two upstreams of the card's own stand on sockets: a first one that has the fault, and a second that is well. The gateway
is told to ask the first and to fall back to the second. Nothing here knows a gateway but by its answers.
"""
