"""The front end in a browser: a page, a socket, and the sessions behind it."""
