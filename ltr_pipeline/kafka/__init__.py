"""Kafka brokers: the connection to them, questions to them, and the reasons why they cannot be reached.

`connection` holds checked values and connects to nothing, `brokers` asks about a topic, `diagnosis` finds the reason of
a failure. The code that reads a topic is in `events`, the code that writes to one is in `serving`.
"""
