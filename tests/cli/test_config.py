from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.terminal import on_terminal
from tests.support.world import World

# Including the space after it: the terminal shows no typed text from then on.
_HIDDEN = "Password (hidden, empty for none): "

NOWHERE = {"DATABASE_URL": "", "REDIS_URL": "", "SITES_BASE_DIR": ""}


@pytest.fixture
def config(world: World) -> Path:
    return Path(os.environ["SITEGENCTL_CONFIG"])


def data(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.stdout)["data"]
    return found


def without_password(url: str) -> tuple[str, str]:
    """The URL, and the password that was in it."""
    parts = urlsplit(url)
    password = parts.password or ""
    return url.replace(f":{password}@", "@"), password


def test_init_writes_a_private_file_from_the_environment(world: World, config: Path) -> None:
    process = world.run("config", "init", "--name", "prod")
    assert (process.returncode, process.stdout, process.stderr) == (
        0,
        f"wrote {config}\n",
        "next: sitegenctl --context prod inspect\n",
    )
    assert config.stat().st_mode & 0o777 == 0o600
    shown = data(world.run("config", "show", "-o", "json", "--context", "prod"))
    assert shown["settings"][0]["origin"] == "context prod"
    # It is the first, and therefore chosen.
    assert world.run("inspect", "orders", **NOWHERE).returncode == 0


def test_init_writes_the_backend_unless_it_is_celery(world: World, config: Path) -> None:
    assert world.run("config", "init", "--name", "one").returncode == 0
    assert world.run("config", "init", "--name", "two", "--backend", "rq").returncode == 0
    assert world.run("config", "init", "--name", "three", SITEGENCTL_BACKEND="rq").returncode == 0
    one, two, three = config.read_text().split("[contexts.")[1:]
    assert ['backend = "rq"' in text for text in (one, two, three)] == [False, True, True]


def test_init_keeps_the_rest_of_the_file(world: World, config: Path) -> None:
    before = '# mine\ncontext = "old"  # why\n[contexts.old]\ngrace = "9m"\n'
    config.write_text(before)
    assert world.run("config", "init", "--name", "new", "--production").returncode == 0
    text = config.read_text()
    assert text.startswith(before)
    assert "production = true" in text
    again = world.run("config", "init", "--name", "new")
    assert again.returncode == 4
    assert "context new already exists" in again.stderr
    assert config.read_text() == text
    assert world.run("config", "init", "--name", "new", "--no-production", "--force").returncode == 0
    assert config.read_text() == text.replace("production = true", "production = false")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--redis-url", "redis://127.0.0.1:1/0"], 3, "error: Redis can't be reached"),
        (["--database-url", "postgresql://u:s3cret@127.0.0.1:1/d"], 3, "error: the database can't be reached"),
        (["--sites-dir", "/no/such/directory"], 3, "error: "),
        (["--database-url", "mysql://u:s3cret@h/d"], 2, "not a PostgreSQL URL"),
        (["--database-password-command", "false", "--database-url", "postgresql://u@h/d"], 2, "false failed (exit 1)"),
    ],
)
def test_init_writes_nothing_if_a_connection_fails(
    world: World, config: Path, arguments: list[str], code: int, complaint: str
) -> None:
    process = world.run("config", "init", *arguments)
    assert (process.returncode, process.stdout) == (code, "")
    assert complaint in process.stderr
    assert "s3cret" not in process.stderr
    assert not config.exists()
    assert world.run("config", "init", *arguments, "--untested").returncode == 0


def test_init_without_a_terminal_names_missing_values(world: World, config: Path) -> None:
    process = world.run("config", "init", **NOWHERE)
    assert process.returncode == 2
    assert process.stderr.splitlines()[0] == "error: no URL of PostgreSQL"
    assert not config.exists()


def test_init_does_not_copy_passwords(world: World, config: Path, tmp_path: Path) -> None:
    url, password = without_password(world.database_url)
    kept = tmp_path / "kept"
    kept.write_text(password + "\n")
    kept.chmod(0o600)
    command = f"cat {shlex.quote(str(kept))}"
    redis, secret = without_password(world.redis_url)
    extra = ["--redis-password-command", f"echo {secret}"] if secret else []
    options = ["--database-url", url, "--redis-url", redis, "--database-password-command", command, *extra]
    assert world.run("config", "init", *options).returncode == 0
    assert password not in config.read_text()
    process = world.run("inspect", "-o", "json", **NOWHERE)
    assert (process.returncode, process.stderr) == (0, "")
    shown = world.run("config", "show", **NOWHERE).stdout
    assert password not in shown
    assert command in shown


def test_init_prompts_tests_and_hides_passwords(world: World, config: Path) -> None:
    url, password = without_password(world.database_url)
    redis, secret = without_password(world.redis_url)
    answers = [
        ("Name of the context [production]:", "postgresql://u:p4ssword@h/d"),
        ("✗ not a name for a context", None),
        ("Name of the context [production]:", "shop"),
        ("URL of PostgreSQL", url.replace(f":{urlsplit(url).port}", ":1")),
        (_HIDDEN, "wr0ng"),
        ("Keep it anyway? [y/N]:", "n"),
        ("URL of PostgreSQL", url),
        (_HIDDEN, password),
        ("URL of Redis", redis),
        (_HIDDEN, secret),
        ("Directory of the sites", str(world.sites_dir / "nowhere")),
        ("Keep it anyway? [y/N]:", ""),
        ("Directory of the sites", str(world.sites_dir)),
        ("Is this a production system", "y"),
    ]
    process = on_terminal("config", "init", answers=answers, **NOWHERE)
    text = process.stdout
    assert process.returncode == 0, text
    assert text.endswith(f"wrote {config}\nnext: sitegenctl --context shop inspect\n")
    assert "✓ PostgreSQL: 0 orders" in text
    assert "✓ Redis: 0 workers" in text
    assert "✗ the database can't be reached" in text
    assert "wr0ng" not in text
    assert "p4ssword" not in config.read_text()
    assert password not in text
    (shop,) = data(world.run("config", "contexts", "-o", "json", **NOWHERE))["contexts"]
    assert (shop["context"], shop["chosen"]) == ("shop", True)
    assert "production = true" in config.read_text()
    assert world.run("inspect", "orders", **NOWHERE).returncode == 0


@pytest.mark.parametrize("name", ["postgresql://u:s3cret@h/d", "a b", "a'b", "", "x" * 61, "a\nb", "[shop]"])
def test_init_refuses_what_is_no_name(name: str, world: World, config: Path) -> None:
    process = world.run("config", "init", "--name", name)
    assert (process.returncode, process.stdout, config.exists()) == (2, "", False)
    first, hint = process.stderr.splitlines()
    assert first == "error: --name: not a name for a context"
    assert hint.startswith("hint: use letters")


@pytest.mark.parametrize("arguments", [("config", "use", "URL"), ("--context", "URL", "status")])
def test_url_in_place_of_a_context_is_masked(arguments: tuple[str, ...], world: World, config: Path) -> None:
    url = "postgresql://u:s3cret@h/d"
    process = world.run(*(url if word == "URL" else word for word in arguments))
    assert process.returncode in (2, 4)
    assert process.stderr.startswith("error: no context 'postgresql://u:***@h/d'")
    assert "s3cret" not in process.stdout + process.stderr


def test_init_corrects_a_wrong_password(world: World, config: Path) -> None:
    """The URL is kept with Enter, also one with its password from the environment."""
    url, password = without_password(world.database_url)
    redis, secret = without_password(world.redis_url)
    answers = [
        ("URL of PostgreSQL", ""),
        ("✗ the database refuses the login", None),
        ("Keep it anyway? [y/N]:", ""),
        ("URL of PostgreSQL", ""),
        ("Password (hidden, empty to keep it): ", password),
        ("✓ PostgreSQL", None),
        ("URL of Redis", redis),
        (_HIDDEN, "wr0ng"),
        ("✗ ", None),
        ("Keep it anyway? [y/N]:", ""),
        ("URL of Redis", ""),
        ("Password (hidden, empty to keep it): ", secret),
        ("✓ Redis", None),
        ("Directory of the sites", str(world.sites_dir)),
    ]
    wrong = {**NOWHERE, "DATABASE_URL": url.replace("@", ":wr0ng@")}
    process = on_terminal("config", "init", "--name", "prod", answers=answers, **wrong)
    assert process.returncode == 0, process.stdout
    assert "wr0ng" not in process.stdout + config.read_text()
    # The name says that it is a production system.
    assert "production system" not in process.stdout
    assert world.run("inspect", "orders", **NOWHERE).returncode == 0


def test_init_asks_only_for_what_no_option_gives(world: World, config: Path) -> None:
    """A text that is not a URL is neither tried nor offered."""
    redis, secret = without_password(world.redis_url)
    options = ["--name", "shop", "--no-production", "--database-url", world.database_url]
    answers = [
        ("URL of Redis (redis://host:6379/0):", "localhost"),
        ("✗ not a URL such as redis://host:6379/0", None),
        ("URL of Redis (redis://host:6379/0):", "http://localhost/0"),
        (_HIDDEN, ""),
        ("✗ REDIS_URL is not a Redis URL", None),
        ("URL of Redis (redis://host:6379/0):", redis),
        (_HIDDEN, secret),
    ]
    given = [*options, "--sites-dir", str(world.sites_dir)]
    process = on_terminal("config", "init", *given, answers=answers, **{**NOWHERE, "REDIS_URL": "typo"})
    assert process.returncode == 0, process.stdout
    for question in ("Name of", "URL of PostgreSQL", "Directory", "production system", "Keep it"):
        assert question not in process.stdout


@pytest.mark.parametrize("untested", [[], ["--untested"]])
def test_init_refuses_a_text_that_is_no_url(world: World, config: Path, untested: list[str]) -> None:
    process = world.run("config", "init", "--redis-url", "localhost", *untested)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.splitlines()[0] == "error: the URL of Redis is not a URL"
    assert not config.exists()


@pytest.mark.parametrize("table", ["site_orders", "site_onboardings", "site_generation_logs"])
def test_init_refuses_a_database_without_the_tables(world: World, config: Path, table: str) -> None:
    world.sql(f"DROP TABLE {table} CASCADE")
    process = world.run("config", "init")
    assert (process.returncode, process.stdout) == (3, "")
    assert f"there is no table {table}" in process.stderr
    assert not config.exists()
    assert world.run("config", "init", "--untested").stderr == "next: sitegenctl --context production doctor\n"


@pytest.mark.parametrize(
    "command",
    [
        *("config use {}", "config use other", "config contexts", "config show", "config init --name {} -y --force"),
        *("config init --name {} -y", "--context {} inspect", "--context {} inspect 42", "--context {} inspect orders"),
        *(
            "--context {} doctor",
            "--context {} enqueue 42 --dry-run",
            "--context {} repair --dry-run",
            "--context {}! inspect",
        ),
        *("--context {} maintain", "--context {} stats", "--context {} queue purge --dry-run", "--context {} live"),
        "--env-file /nowhere/{} inspect",
    ],
)
def test_names_of_contexts_are_neutralised(world: World, config: Path, command: str) -> None:
    name = "a\x1b[31mb\u202ec\nd"
    world.order(42)
    urls = {"database_url": world.database_url, "redis_url": world.redis_url, "sites_dir": str(world.sites_dir)}
    values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in urls.items())
    config.write_text(
        f"context = {json.dumps(name)}\n[contexts.{json.dumps(name)}]\n{values}[contexts.other]\n{values}"
    )
    environ = {**NOWHERE, "SITEGENCTL_CONTEXT": name if command == "config use other" else ""}
    process = world.run(*(word.replace("{}", name) for word in command.split()), **environ)
    shown = process.stdout + process.stderr
    assert shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert "c\nd" not in shown


def test_contexts_are_listed_and_selected(world: World, config: Path) -> None:
    assert world.run("config", "contexts").stdout == "no contexts; sitegenctl config init creates one\n"
    assert world.run("config", "init", "--name", "one").returncode == 0
    assert world.run("config", "init", "--name", "two").returncode == 0
    password = without_password(world.database_url)[1]
    shown = world.run("config", "contexts")
    assert password not in shown.stdout
    assert [row["chosen"] for row in data(world.run("config", "contexts", "-o", "json"))["contexts"]] == [True, False]
    process = world.run("config", "use", "two", SITEGENCTL_CONTEXT="one")
    assert (process.returncode, process.stdout) == (0, "using two\n")
    assert process.stderr == "note: SITEGENCTL_CONTEXT=one takes precedence\n"
    assert [row["chosen"] for row in data(world.run("config", "contexts", "-o", "json"))["contexts"]] == [False, True]
    assert config.stat().st_mode & 0o777 == 0o600
    nowhere = world.run("config", "use", "three")
    assert (nowhere.returncode, nowhere.stderr.splitlines()[1]) == (4, "hint: known contexts: one, two, demo")
    assert world.run("config", "use", "one", "--read-only").returncode == 4


def test_env_file_selects_the_system_also_in_remedies(world: World, tmp_path: Path) -> None:
    world.order(42)
    file = tmp_path / "the crm.env"
    parts = urlsplit(world.database_url)
    file.write_text(
        f"# the CRM's\nDB_PASSWORD='{parts.password}'\n"
        f"DATABASE_URL=postgresql+asyncpg://{parts.username}:${{DB_PASSWORD}}@{parts.hostname}:{parts.port}{parts.path}\n"
        f'REDIS_URL="{world.redis_url}"\nexport SITES_BASE_DIR={world.sites_dir} # shared\nSECRET_KEY=x\n'
    )
    file.chmod(0o600)
    elsewhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    process = world.run("--env-file", str(file), "inspect", "42", **elsewhere)
    assert (process.returncode, process.stderr) == (0, "")
    assert f"→ sitegenctl --env-file '{file}' start-stuck" in process.stdout
    advised = world.run("--env-file", str(file), "inspect", "-o", "json", **elsewhere).stdout
    assert f"sitegenctl --env-file '{file}' start-stuck" in advised
    shown = world.run("config", "show", "--env-file", str(file), **elsewhere).stdout
    assert f"DATABASE_URL in {file}" in shown
    assert str(parts.password) not in shown
    both = world.run("--env-file", str(file), "--context", "demo", "inspect")
    assert (both.returncode, both.stdout) == (2, "")
    made = world.run("--env-file", str(file), "config", "init", "--name", "crm", **elsewhere)
    assert made.returncode == 0
    assert world.run("--context", "crm", "inspect", "42", **elsewhere).returncode == 0


def test_env_file_of_the_crm_selects_the_system(world: World, tmp_path: Path) -> None:
    world.order(42)
    database, redis = urlsplit(world.database_url), urlsplit(world.redis_url)
    file = tmp_path / "crm.env"
    file.write_text(
        f"DB_NAME={database.path[1:]}\nDB_USER={database.username}\nDB_PASSWORD={database.password}\n"
        f"DB_HOST={database.hostname}\nDB_PORT={database.port}\nSECRET_KEY=x\n"
        f"REDIS_HOST={redis.hostname}\nREDIS_PORT={redis.port}\nREDIS_PASSWORD={redis.password or ''}\n"
        f"REDIS_DB={redis.path[1:]}\nSITES_BASE_DIR={world.sites_dir}\nSITEGENCTL_BACKEND={world.backend}\n"
    )
    file.chmod(0o600)
    process = world.run("--env-file", str(file), "inspect", "42", **NOWHERE)
    assert (process.returncode, process.stderr) == (0, "")
    assert "UNSTARTED" in process.stdout
    shown = world.run("--env-file", str(file), "config", "show").stdout
    assert f"DB_NAME, DB_USER, DB_PASSWORD, DB_HOST, DB_PORT in {file}" in shown
    assert str(database.password) not in shown


def test_maintain_warns_once_about_a_readable_env_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "crm.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in world.environ.items()))

    def warnings(*options: str, **environ: str) -> int:
        process = world.run("--env-file", str(file), "maintain", *options, **NOWHERE, **environ)
        assert process.returncode == 0
        return process.stderr.count(f"chmod o= {file}")

    file.chmod(0o644)
    assert [warnings("--dry-run"), warnings(), warnings(), warnings(), warnings("--dry-run")] == [1, 1, 0, 0, 1]
    # It warns again after the file was put right, and where nothing can be remembered.
    file.chmod(0o600)
    assert warnings() == 0
    file.chmod(0o644)
    assert [warnings(), warnings()] == [1, 0]
    assert [warnings(SITEGENCTL_STATE_DIR=f"{file}/no") for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("command", ["enqueue 42 --dry-run", "repair", "inspect", "doctor", "maintain --dry-run"])
def test_warning_about_a_readable_file_is_printed_once(world: World, config: Path, command: str) -> None:
    world.order(42)
    assert world.run("config", "init").returncode == 0
    config.chmod(0o644)
    assert world.run(*command.split(), **NOWHERE).stderr.count("warning: ") == 1


def test_world_readable_settings_file_is_warned_about(world: World, config: Path) -> None:
    assert world.run("config", "init", "--name", "prod").returncode == 0
    assert world.run("inspect", "orders", **NOWHERE).stderr == ""
    config.chmod(0o644)
    process = world.run("inspect", "orders", "-o", "json", **NOWHERE)
    assert process.returncode == 0
    assert process.stderr == (
        f"warning: {config} contains a password and is readable by every user: chmod o= {config}\n"
    )
