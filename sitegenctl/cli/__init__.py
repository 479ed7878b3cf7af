"""The commands: each module parses, calls one operation and renders what it returns."""
