"""Widgets receive data and send messages. They call no operation."""
