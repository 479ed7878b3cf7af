"""The live view and the status page in a browser."""
