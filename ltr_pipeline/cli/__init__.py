"""The command line: ``ltr``.

`commands` holds the words a user types: names, arguments, help. `nightly` runs, tries and simulates; `drafting`
drafts a mapping; `demo` shows the
loop; `models` looks after versions; `events` shows what landed; `stack` starts and stops. Commands print for people;
``--json`` prints for machines.
"""
