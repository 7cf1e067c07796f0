"""Webhooks: a project's events, sent to its endpoints as Standard Webhooks 1.0 has it.

endpoints   where to, and with which secrets
events      what is sent, and its id
notices     who tells of an event: jobs here, batches and schedules elsewhere
deliveries  an event on its way to one endpoint: claimed, attempted, recorded, listed, made again
retries     when the next attempt is
sender      one attempt: signed, posted, its outcome in words
courier     what the courier does for a message, and how what is due is announced
scripts     the Lua scripts all of it is written with (``lua``)

The record is the truth, a message in the queue only wakes somebody: which delivery is claimed for it is
decided in Redis. A receiver that is dead or slow takes the time of no other: to one endpoint there are at
most two requests at once, one while it fails, and a courier keeps half of its threads from those that fail.
"""
