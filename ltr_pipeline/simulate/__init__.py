"""Lawyers for cases: a small world that knows the truth, and the log that it would have left.

=======  ================================================================
world    what is simulated, and what a lawyer is truly worth for a case
draw     lists and answers as columns, a day's or any number; visits that somebody else ranks
log      the same lists as messages in order of arrival, faults included
growing  the log that `make run` learns from when there is none, a day longer each night
stage    the real service with simulated users, and a calendar that turns faster than time
=======  ================================================================

Start with ``World(legacy_weights=…)``; `write_log` writes what `make run` learns from, `truth` says what was true of
it, `sample` draws lists without messages.
"""
