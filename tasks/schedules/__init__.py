"""Schedules: jobs that are made again and again, at times or when objects change.

    triggers     when a schedule fires
    records      what is stored of schedules and runs
    store        both in Redis, changed by Lua scripts alone
    firing       one look at a schedule: which fires are due, their runs, the runs' jobs
    inputs       the job request of a run, with files from the inbox
    changes      which objects of an inbox have changed
    regression   a run compared with the last good one
    endings      what the end of a job means for its run
    holding      the models and data sets that schedules need are not removed
    archive      the durable copies in storage; restoring makes both anew from them
    waker        the entries in redbeat that wake a courier when something is due

The record says how far a schedule has been worked off (`cursor`); a fire is known by schedule and time. So
whoever looks at a schedule, and however often, makes the runs that are due and no other, each once. A
message says only that there may be something to do; when none comes, the reaper finds the schedule in
``fw:schedules:due``.
"""
