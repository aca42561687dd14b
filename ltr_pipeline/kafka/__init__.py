"""Brokers: how to reach them, what they know about a topic, and why they cannot be reached.

`connection` is plain values checked on their own, `brokers` asks, `diagnosis` finds the reason of a failure. What reads
a topic is in `events`, what writes to one in `serving`.
"""
