"""A machine room in virtual time: the real service and worker rules, with clock, network, GPU and disk of the log
played. A day takes seconds. The scenarios give the figures of docs/queue.md; `make bench ARGS="--only simulation"`.
"""
