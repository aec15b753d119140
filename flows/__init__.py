"""One file per flow, reading top to bottom like the method section of a paper."""
