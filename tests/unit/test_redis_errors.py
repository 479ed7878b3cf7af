"""What Redis's error replies mean for the person who reads about them."""

from __future__ import annotations

import pytest

from sitegenctl.adapters.redis_errors import Refusal, error_of


@pytest.mark.parametrize(
    ("reply", "message", "only_this_command"),
    [
        ("WRONGPASS invalid username-password pair", "Redis refuses the login: invalid username-password pair", False),
        ("NOAUTH Authentication required.", "Redis refuses the login: Authentication required.", False),
        ("ERR invalid password", "Redis refuses the login: invalid password", False),
        ("NOPERM you may not", "Redis refuses the login: you may not", True),
        ("LOADING Redis is loading", "Redis can't be reached: Redis is loading", False),
        ("ERR max number of clients reached", "Redis can't be reached: max number of clients reached", False),
        ("OOM command not allowed", "Redis refused: command not allowed", True),
        ("ODD", "Redis refused: ODD", True),
    ],
)
def test_an_error_reply_says_whether_it_is_the_login_the_server_or_the_command(
    reply: str, message: str, only_this_command: bool
) -> None:
    error = error_of(reply)
    assert (error.message, error.source) == (message, "broker")
    assert isinstance(error, Refusal) is only_this_command
