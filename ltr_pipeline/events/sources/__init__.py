"""Where events come from: `files` by byte, a `kafka` topic by offset. Both go on where the last partition ended."""
