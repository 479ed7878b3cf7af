"""What settings are read from: the settings file, a system's ``.env``, and where passwords are kept.

What each value means, and which of several holds, is ``settings.py``'s.
"""
