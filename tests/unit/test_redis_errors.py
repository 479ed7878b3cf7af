from __future__ import annotations

import pytest

from sitegenctl.adapters.redis.errors import Refusal, error_of, without_errors


@pytest.mark.parametrize(
    ("reply", "message", "only_this_command"),
    [
        ("WRONGPASS invalid username-password pair", "Redis refuses the login: invalid username-password pair", False),
        ("NOAUTH Authentication required.", "Redis refuses the login: Authentication required.", False),
        ("ERR unknown command", "Redis refused: unknown command", True),
        ("NOPERM you may not", "Redis does not let this user do that: you may not", True),
        ("NOPERM No permissions to access a key", "Redis does not let this user do that: No permissions", True),
        ("NOPERM the 'password' command is not allowed", "Redis does not let this user do that: the 'password'", True),
        ("LOADING Redis is loading", "Redis can't be reached: Redis is loading", False),
        ("ERR max number of clients reached", "Redis can't be reached: max number of clients reached", False),
        ("OOM command not allowed", "Redis refused: command not allowed", True),
        ("ODD", "Redis refused: ODD", True),
    ],
)
def test_error_replies_are_classified_by_code(reply: str, message: str, only_this_command: bool) -> None:
    error = error_of(reply)
    assert error.message.startswith(message)
    assert error.source == "broker"
    assert isinstance(error, Refusal) is only_this_command


@pytest.mark.parametrize(
    ("reply", "command", "message", "rule"),
    [
        (
            "NOPERM User clerk has no permissions to run the 'publish' command",
            ("PUBLISH", "c", "m"),
            "execute PUBLISH",
            "ACL SETUSER clerk '+publish'",
        ),
        (
            "NOPERM this user has no permissions to run the 'keys' command or its subcommand",
            ("KEYS", "*"),
            "execute KEYS",
            "ACL SETUSER USER '+keys'",
        ),
        ("NOPERM No permissions to access a key", ("LLEN", b"q"), "use the key q with LLEN", "ACL SETUSER USER '~q'"),
        (
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            ("EVAL", "return 1", 2, "unacked", "unacked_index", "tag"),
            "use the key unacked with EVAL",
            "ACL SETUSER USER '~unacked'",
        ),
        (
            "NOPERM No permissions to access a channel",
            ("PUBLISH", "/0.celery.pidbox", "m"),
            "use the channel /0.celery.pidbox with PUBLISH",
            "ACL SETUSER USER '&/0.celery.pidbox'",
        ),
    ],
)
def test_missing_permission_names_the_acl_rule(
    reply: str, command: tuple[object, ...], message: str, rule: str
) -> None:
    (error,) = without_errors([error_of(reply)], commands=[command], keep_refusals=True)
    assert error.message == f"Redis does not let this user {message}"
    assert error.hint.endswith(rule)
    assert "login" not in error.message + error.hint
