"""The database that holds people's tables and ours: PostgreSQL, or SQLite in a file.

=========  =============================================================
address    where it is, parsed without a driver; it never shows a password
engine     an open database, its transactions, and errors in plain words
types      columns that mean the same on both
tables     tables that a room declares, created and brought up to date
=========  =============================================================
"""
