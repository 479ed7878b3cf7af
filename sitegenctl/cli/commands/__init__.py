"""One module per command: parse options, call one operation, render its result."""
