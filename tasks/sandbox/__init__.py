"""Where a caller's bytes are touched: one process per job, forked from a server without secrets.

    worker (threads) ──socket──> fork server ──fork──> runner (tasks.runner)
       ^                                                  │
       └──────── events, output, exit status (pipes) ─────┘

forkserver.py  imports what is slow to import, then forks a runner per request
children.py    the worker's side: starts the server, asks it for runners, signals them
lockdown.py    what a runner gives up before it sees the caller's bytes
exits.py       what an exit status means
collect.py     takes a dead runner's outputs, believing nothing it says
"""
