"""How a run ended, told to people: the report, the notifications.

`page` renders the report, a single HTML file that needs nothing else, the verdict first; `rows` and `text` prepare what
its templates show, in the `wording` that the command line and `notify` use, too. `outcome` writes it for a run.
Everything a run may lack (no events, a first run without a champion, nothing to judge) may be None, and its section is
left out. Names of features, groups and slices come from users' data: templates escape everything, and the page's
content policy forbids scripts and requests.
"""
