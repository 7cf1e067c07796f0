"""Batches: many jobs asked for at once.

    sources      where the items come from: the request, an uploaded file, the inbox, models times specs
    checking     an entry of a source becomes a job request, or says what is wrong with it
    validation   sources are read page by page into storage
    identity     which items come to the same; results that earlier jobs have made
    submission   items become jobs, and jobs that ended end items
    stopping     what has not ended is ended: cancelled, out of time, or after a failure
    completion   the result files, and the end
    store        the record in Redis             (lua)
    files        the copies in storage, which outlive Redis
    engine       what is to be done next to a batch

The record is the truth and every step can be repeated by anybody: the ids of jobs are derived from the
batch and the item's ``custom_id``, so nothing is done twice.
"""
