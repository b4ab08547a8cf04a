"""Private names, patches and foreign messages: the corners that move between releases."""
