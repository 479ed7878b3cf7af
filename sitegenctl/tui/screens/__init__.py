"""Screens that lie above the live view: a plan with its outcomes, help, and what must be typed."""
