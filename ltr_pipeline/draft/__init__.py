"""A mapping drafted from a log: what its fields seem to mean, why, and what is unsure.

=========  ==============================================================
sample     messages of a log, from all over it
tables     their fields as columns
words      what fields and actions are usually called
kinds      which field tells the kind of a message
roles      which kinds show items and which are feedback
keys       by which ids feedback finds the item that it is about
times      when it happened, and in which unit
features   which numbers were known before a list was shown
actions    what users did, and what that is worth
columns    where each other column of events is, and how paths are put in order
rankings   which list an impression belongs to
jq         how a log is altered that no mapping can read
notes      what is to be said about a draft
nothing    why no mapping can be drafted
drafting   all of it put together
toml       the mapping as a file, with a reason beside each choice
=========  ==============================================================

Start with `drafting.draft`. Nothing here reads more than a sample, and nothing is sure: whoever owns the log decides.
"""
