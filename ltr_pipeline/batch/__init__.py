"""Rows of a database, scored by the published version: columns filled in batches, candidates ranked for BI.

=========  =================================================================
job        what is scored, as a TOML file declares it
model      the published version, loaded for a run
columns    people's tables, looked at before anything is done to them
target     the table of a job: rows fetched and locked, scores written
changing   features that the mapping's tables give at a moment
matrix     values of a database as a model takes them, or why they cannot be
scale      from scores to 0…100: a probability, or a percentile
score      fill a column of the rows that have none
rank       order candidates and recommend the best
proposed   recommendations as people answer them
answers    approved, rejected, or superseded by a newer run
runs       runs and batches: told while they go on, and kept
tables     our tables for all of this
=========  =================================================================
"""
