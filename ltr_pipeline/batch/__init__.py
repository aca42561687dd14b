"""Rows of a database, scored by the published version: columns filled in batches, candidates ranked for BI.

============  ===========================================================
tables        runs, batches, rejected rows, recommendations
============  ===========================================================
"""
