"""What is true: orders, tasks, workers and files, and what follows from them.

Pure: standard library only, no I/O, no clock. Whatever is true at a moment comes in as an argument.
"""
