"""Where a caller's bytes are touched: one process per job, forked from a server without secrets.

    worker (threads) ──socket──> fork server ──fork──> runner (tasks.runner)
       ^                                                  │
       └──────── events, output, exit status (pipes) ─────┘

forkserver.py  imports what is slow to import, then forks a runner per request
children.py    the worker's side: starts the server, asks it for runners, signals them
lockdown.py    what a runner gives up before it sees the caller's bytes, in which order
identity.py    user and capabilities
landlock.py    files, TCP, other processes
seccomp.py     system calls; syscalls.py has their numbers, kernel.py makes those Python has not
choice.py      which sandbox the settings ask for
probe.py       tries, in a runner, everything that must be refused
selftest.py    the worker's side of that
disk.py        how much a job writes
removal.py     remove what it wrote
exits.py       what an exit status means
collect.py     takes a dead runner's outputs, believing nothing it says
"""
