"""The pages people look at: what ranks, how the nights went, what the data and the users did.

A page is a function of facts: nothing here is served, asked for or decided. The service mounts the pages
(`serving.http.board`), `ltr board --html` writes them as files (`files`).
"""
