"""The report of one nightly run: a single HTML file that needs nothing else, the verdict first.

`render` is pure: records in, text out; the same records give the same bytes. Everything a run may lack (no events, a
first run without a champion, nothing to judge) may be None, and its section is left out. Names of features, groups and
slices come from users' data: templates escape everything, and the page's content policy forbids scripts and requests.
"""
