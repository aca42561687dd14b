"""From a request to an answer: `service` ranks, `order` explores and interleaves, `shadow` scores a second time.

`agreement` compares the scores of two models.
"""
