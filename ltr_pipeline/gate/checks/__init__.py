"""Checks of the gate, each a pure function of the evidence and the policy, named as its line of the gate table.

`ranker` has those of the challenger by itself, `fairness` those of groups of people, `rivals` those against published
versions, `leaks` those that a gain is true, and `inputs` those of what the night was made from. `decision` makes them.
"""
