"""From landed events to labelled rankings, split by time.

`windows` decides the days, `labels` joins feedback to impressions, `build` writes one labelled table a hash bucket and
the `manifest` that accounts for every row, `load` reads a part of it as arrays.
"""
