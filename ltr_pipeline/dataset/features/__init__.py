"""Features that change: values of tables with a time, as of the moment a list was shown.

`source` reads a table wherever it is, `snapshot` freezes what a run needs of it, `asof` joins it to labelled rankings,
`moment` has the values of one moment, for rows that are scored now.
"""
