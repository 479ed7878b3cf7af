from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

import sitegenctl
from sitegenctl.config.secrets import mask_url
from sitegenctl.config.settings import load_settings
from sitegenctl.errors import UsageProblem
from sitegenctl.render.command import hint_text


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"SITEGENCTL_CONFIG": str(tmp_path / "config.toml"), "SITEGENCTL_DATA_DIR": str(tmp_path / "data")}


def configure(environ: dict[str, str], text: str) -> None:
    Path(environ["SITEGENCTL_CONFIG"]).write_text(text)


def test_precedence_of_sources(environ: dict[str, str]) -> None:
    configure(environ, 'context = "prod"\n[contexts.prod]\ngrace = "1m"\ndatabase_url = "from-file"\n')
    settings = load_settings({}, environ)
    assert (settings.database_url, settings.origins["database_url"]) == ("from-file", "context prod")
    environ["DATABASE_URL"] = "from-system"
    assert load_settings({}, environ).database_url == "from-system"
    environ["SITEGENCTL_DATABASE_URL"] = "from-own"
    settings = load_settings({}, environ)
    assert (settings.database_url, settings.origins["database_url"]) == ("from-own", "SITEGENCTL_DATABASE_URL")
    assert load_settings({"grace": "7s"}, environ).grace == timedelta(seconds=7)
    assert settings.origins["queue"] == "default"


def test_context_flag_beats_the_environment(environ: dict[str, str]) -> None:
    """Else ``--context staging`` on a production host would act on production."""
    configure(environ, '[contexts.staging]\ndatabase_url = "staging"\n')
    environ |= {"DATABASE_URL": "production", "SITEGENCTL_DATABASE_URL": "production"}
    assert load_settings({"context": "staging"}, environ).database_url == "staging"


def test_running_demo_provides_a_context(environ: dict[str, str]) -> None:
    with pytest.raises(UsageProblem, match="demo is not up") as caught:
        load_settings({"context": "demo"}, environ)
    assert hint_text(caught.value.hint) == "sitegenctl demo up"
    context = Path(environ["SITEGENCTL_DATA_DIR"]) / "demo" / "context.toml"
    context.parent.mkdir(parents=True)
    context.write_text('redis_url = "redis://demo"\n')
    assert load_settings({"context": "demo"}, environ).redis_url == "redis://demo"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not toml at all [", "not valid TOML"),
        ('context = "elsewhere"\n[contexts.prod]\n', "no context 'elsewhere'"),
        ('context = "prod"\n[contexts.prod]\ngarce = "1m"\n', "unknown setting 'garce'"),
        ('context = "prod"\n[contexts.prod]\ngrace = "soon"\n', "grace .context prod.: 'soon' is not a duration"),
        ('context = "prod"\n[contexts.prod]\nbackend = "sidekiq"\n', "not a backend"),
    ],
)
def test_invalid_settings_file_is_reported_in_one_line(environ: dict[str, str], text: str, complaint: str) -> None:
    configure(environ, text)
    with pytest.raises(UsageProblem, match=complaint) as caught:
        load_settings({}, environ)
    assert "\n" not in caught.value.message


def test_missing_configuration_suggests_the_demo(environ: dict[str, str]) -> None:
    settings = load_settings({}, environ)
    url = settings.require_url
    for require in (partial(url, "database"), partial(url, "redis"), settings.require_sites_dir):
        with pytest.raises(UsageProblem, match="is configured") as caught:
            require()
        assert "sitegenctl demo up" in (hint_text(caught.value.hint) or "")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://crm:s3cret@db:5432/crm", "postgresql://crm:***@db:5432/crm"),
        ("redis://:s3cret@redis:6379/0", "redis://:***@redis:6379/0"),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        (
            "postgresql://u:p@ss@h/d?sslmode=require&password=s3cret",
            "postgresql://u:***@h/d?sslmode=require&password=***",
        ),
        ("unix:///run/redis.sock?db=1&password=s3cret", "unix:///run/redis.sock?db=1&password=***"),
        ("redis://s3cret@h:6379/0", "redis://***@h:6379/0"),
        ("rediss://s3cret@h", "rediss://***@h"),
        ("valkey://s3cret@h", "valkey://***@h"),
        ("unix://s3cret@/run/redis.sock", "unix://***@/run/redis.sock"),
        ("redis://s3/cr?et#@h:6379/0", "redis://***@h:6379/0"),
        ("redis://:s3?cr#et@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://h:6379/0?password=s3@cret", "redis://***"),
        ("redis://h:6379/0#s3cret", "redis://h:6379/0#***"),
        ("redis://:s3cret", "redis://:***"),
        ("redis://user:s3cret", "redis://user:***"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis:/s3cret@h", "***"),
        ("s3cret", "***"),
        ("postgresql://crm@h/d", "postgresql://crm@h/d"),
        ("postgresql://s3/cret@h/d", "postgresql://***@h/d"),
        ("postgresql://u@h:1,h2:2/d", "postgresql://u@h:1,h2:2/d"),
        ("postgresql://h:1,h2/d", "postgresql://h:1,h2/d"),
        ("postgresql://u:p@h,v:s3cret@h2/d", "postgresql://u:***@h2/d"),
        ("postgresql://u@h/d?sslpassword=s3cret", "postgresql://u@h/d?sslpassword=***"),
        ("postgresql://u@h/d?PASSWORD=s3cret", "postgresql://u@h/d?PASSWORD=***"),
        ("postgresql://u@h/d?p%61ssword=s3cret", "postgresql://u@h/d?p%61ssword=***"),
        ("postgresql://u@h/d?x=s3cret;password=s3cret", "postgresql://u@h/d?x=***;password=***"),
        ("postgresql://u@h/d#s3cret", "postgresql://u@h/d#***"),
        ("redis://h/s3cret", "redis://h/***"),
        ("redis://h:6379/0?token=s3cret", "redis://h:6379/0?token=***"),
        ("postgresql://u@h/d?options=-c%20app.secret%3Ds3cret", "postgresql://u@h/d?options=***"),
        ("rediss://u:p@h:1/0s3cret?x=1", "rediss://u:***@h:1/***?x=***"),
        ("redis://h:6379/15/", "redis://h:6379/15/"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("postgresql://u@h/d?options=-c%20app.password%3Ds3cret", "postgresql://u@h/d?options=***"),
        ("postgresql://u@h/d?options=-c statement_timeout=1", "postgresql://u@h/d?options=-c statement_timeout=1"),
        ("postgresql://u@h/d?sslmode=s3cret&SSLMODE=require", "postgresql://u@h/d?sslmode=***&SSLMODE=require"),
        ("postgresql://u@h/d?s3cret&s3cret=", "postgresql://u@h/d?***&***"),
        ("postgresql://u@h/d?app.key=s3cret&jit=off", "postgresql://u@h/d?app.key=***&jit=off"),
        ("postgresql:///d?host=/run/pg&port=5433", "postgresql:///d?host=/run/pg&port=5433"),
        ("unix:///run/redis.sock?db=s3cret", "unix:///run/redis.sock?db=***"),
        ("unix:///run/redis.sock?db=2&socket_timeout=1.5", "unix:///run/redis.sock?db=2&socket_timeout=1.5"),
        ("sentinel://h:1/s3cret", "sentinel://h:1/***"),
        ("https://hooks.example/services/s3cret", "https://***"),
        ("host=h password=s3cret", "***"),
        ("sentinel://:s3cret@a:1/0;sentinel://:s3cret@b:2/0", "sentinel://:***@a:1/0;sentinel://:***@b:2/0"),
    ],
)
def test_passwords_are_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked


_PORT = "its port is not a number up to 65535; in a password, / ? # and @ must be percent-encoded"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:s3cret@h:54x/d", _PORT),
        ("postgresql://u:s3cret@h:1,h2:99999/d", _PORT),
        ("redis://h:s3cret", _PORT),
        ("postgresql:/u:s3cret@h/d", "not a valid URL: // is missing after its scheme"),
        ("redis::s3cret@h", "not a valid URL: // is missing after its scheme"),
        ("postgresql://u:s3/cret@h/d", "not a valid URL; in a password, / ? # and @ must be percent-encoded"),
        ("redis://a..b:1/0", "not a valid URL; in a password, / ? # and @ must be percent-encoded"),
    ],
)
def test_invalid_url_names_the_invalid_part(environ: dict[str, str], url: str, problem: str) -> None:
    variable = "REDIS_URL" if url.startswith("redis") else "DATABASE_URL"
    with pytest.raises(UsageProblem, match=f"{re.escape(problem)}$") as caught:
        load_settings({}, {**environ, variable: url})
    assert "cret" not in caught.value.message


@pytest.mark.parametrize("login", ["", ":s3cret@"])
def test_sentinels_are_written_as_celery_documents_them(environ: dict[str, str], login: str) -> None:
    url = ";".join(f"sentinel://{login}h{number}:26379" for number in (1, 2, 3))
    assert load_settings({}, {**environ, "REDIS_URL": url}).redis_url == url


def test_sentinel_password_is_never_printed(environ: dict[str, str]) -> None:
    settings = load_settings({}, {**environ, "SITEGENCTL_SENTINEL_PASSWORD": "s3cret"})
    assert settings.sentinel_password.reveal() == "s3cret"
    assert "s3cret" not in f"{settings} {settings.sentinel_password} {settings.sentinel_password!r}"


@pytest.mark.parametrize(
    ("value", "prefix"), [("/{db}.", "/{db}."), ("/sites.", "/sites."), (True, "/{db}."), (False, "")]
)
def test_fanout_prefix_accepts_kombus_values(environ: dict[str, str], value: str | bool, prefix: str) -> None:
    assert load_settings({"fanout_prefix": value}, environ).fanout_prefix == prefix


def test_invalid_fanout_prefix_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(UsageProblem, match="not a valid prefix"):
        load_settings({"fanout_prefix": "/{queue}."}, environ)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6))
def test_no_password_survives_masking(password: str) -> None:
    secret = f"pw{password}"
    assert secret not in mask_url(f"postgresql://user:{secret}@host/db?sslpassword={secret}")


def test_env_file_beats_environment_and_excludes_contexts(environ: dict[str, str]) -> None:
    configure(environ, 'context = "prod"\n[contexts.prod]\nsites_dir = "/prod"\ngrace = "9m"\n')
    file = Path(environ["SITEGENCTL_CONFIG"]).with_name("crm.env")
    file.write_text("DATABASE_URL=postgresql://u@h/crm\nSITEGENCTL_QUEUE=other\nPATH=/evil\n")
    environ |= {"DATABASE_URL": "production", "SITEGENCTL_DATABASE_URL": "production", "REDIS_URL": "redis://r"}
    settings = load_settings({"env_file": file}, environ)
    assert (settings.database_url, settings.origins["database_url"]) == (
        "postgresql://u@h/crm",
        f"DATABASE_URL in {file}",
    )
    assert (settings.queue, settings.redis_url) == ("other", "redis://r")
    assert (settings.context, settings.sites_dir, settings.grace) == (None, None, timedelta(minutes=2))
    assert load_settings({"env_file": file, "database_url": "flag"}, environ).database_url == "flag"
    with pytest.raises(UsageProblem, match="mutually exclusive"):
        load_settings({"env_file": file, "context": "prod"}, environ)


@pytest.mark.parametrize(
    ("text", "setting", "url"),
    [
        ("DB_NAME=crm", "database_url", "postgresql://localhost/crm"),
        (
            "DB_NAME=crm\nDB_USER=ana\nDB_PASSWORD='p@ss/w:rd#'\nDB_HOST=db\nDB_PORT=5433",
            "database_url",
            "postgresql://ana:p%40ss%2Fw%3Ard%23@db:5433/crm",
        ),
        ("DB_NAME=crm\nDB_HOST=db:5433", "database_url", "postgresql://db:5433/crm"),
        ("DB_NAME=crm\nDB_HOST=::1\nDB_PORT=5433", "database_url", "postgresql://[::1]:5433/crm"),
        ("DB_NAME=crm\nDATABASE_URL=postgresql://u@h/d", "database_url", "postgresql://u@h/d"),
        ("REDIS_HOST=r", "redis_url", "redis://r/0"),
        ("REDIS_HOST=r\nREDIS_PASSWORD=s@\nREDIS_PORT=6380\nREDIS_DB=2", "redis_url", "redis://:s%40@r:6380/2"),
        ("REDIS_HOST=r\nREDIS_URL=redis://other/1", "redis_url", "redis://other/1"),
    ],
)
def test_env_file_composes_urls_of_their_parts(environ: dict[str, str], text: str, setting: str, url: str) -> None:
    file = secret(environ, "crm.env", f"{text}\nSECRET_KEY=x\n")
    # A file means its own system: the environment may mean another one.
    environ |= {"DATABASE_URL": "postgresql://elsewhere/d", "REDIS_URL": "redis://elsewhere/0", "DB_HOST": "elsewhere"}
    settings = load_settings({"env_file": file}, environ)
    assert getattr(settings, setting) == url
    assert settings.origins[setting].endswith(f" in {file}")
    # Only a file is read that way.
    assert load_settings({}, {"DB_NAME": "crm", "REDIS_HOST": "r"}).database_url is None


def test_env_file_without_a_source_names_what_is_missing(environ: dict[str, str]) -> None:
    file = secret(environ, "crm.env", "DB_PASSWORD=s3cret\nSECRET_KEY=x\n")
    settings = load_settings({"env_file": file}, environ)
    with pytest.raises(UsageProblem) as caught:
        settings.require_url("database")
    assert caught.value.hint == f"set DATABASE_URL or DB_NAME in {file}"
    with pytest.raises(UsageProblem) as caught:
        settings.require_url("redis")
    assert caught.value.hint == f"set REDIS_URL or REDIS_HOST in {file}"
    with pytest.raises(UsageProblem) as caught:
        settings.require_sites_dir()
    assert caught.value.hint == f"set SITES_BASE_DIR in {file}"


def test_env_file_with_nothing_known_names_all_it_reads(environ: dict[str, str]) -> None:
    file = secret(environ, "crm.env", "SECRET_KEY=x\n")
    with pytest.raises(UsageProblem, match="sets no variable") as caught:
        load_settings({"env_file": file}, environ)
    hint = hint_text(caught.value.hint) or ""
    assert all(name in hint for name in ("DATABASE_URL", "DB_NAME", "REDIS_URL", "REDIS_HOST", "SITEGENCTL_*"))


def secret(environ: dict[str, str], name: str, text: str) -> Path:
    path = Path(environ["SITEGENCTL_CONFIG"]).with_name(name)
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_password_from_file_or_command(environ: dict[str, str]) -> None:
    kept = secret(environ, "password", "p@ss/word\nmore\n")
    configure(
        environ,
        f"""context = "prod"
[contexts.prod]
database_url = "postgresql://crm@h:5432/crm"
database_password_file = "{kept}"
redis_url = "redis://h/0"
redis_password_command = ["echo", "s3 cret"]
""",
    )
    settings = load_settings({}, environ)
    assert settings.require_url("database") == "postgresql://crm:p%40ss%2Fword@h:5432/crm"
    assert settings.require_url("redis") == "redis://:s3%20cret@h/0"
    assert settings.database_url == "postgresql://crm@h:5432/crm"


def test_password_is_not_sent_to_a_server_of_another_source(environ: dict[str, str]) -> None:
    kept = secret(environ, "password", "s3cret")
    configure(
        environ,
        f"""context = "prod"
[contexts.prod]
database_url = "postgresql://crm@prod/crm"
database_password_file = "{kept}"
""",
    )
    elsewhere = {**environ, "DATABASE_URL": "postgresql://crm@elsewhere/crm"}
    settings = load_settings({}, elsewhere)
    assert settings.require_url("database") == "postgresql://crm@elsewhere/crm"
    assert settings.origins["database_password_file"] == "context prod, not used"
    named = load_settings({"context": "prod"}, elsewhere)
    assert named.require_url("database") == "postgresql://crm:s3cret@prod/crm"
    # Docker's way: the URL in a context, the password beside it in the environment.
    other = secret(environ, "other", "from-docker")
    stronger = load_settings({}, {**environ, "SITEGENCTL_DATABASE_PASSWORD_FILE": str(other)})
    assert stronger.require_url("database") == "postgresql://crm:from-docker@prod/crm"
    command = load_settings({}, {**environ, "SITEGENCTL_DATABASE_PASSWORD_COMMAND": "echo 'of a command'"})
    assert command.require_url("database") == "postgresql://crm:of%20a%20command@prod/crm"


@pytest.mark.parametrize(("source", "limit"), [("flag", "50ms"), ("SITEGENCTL_TIMEOUT", "60ms")])
def test_timeout_bounds_the_password_command(environ: dict[str, str], source: str, limit: str) -> None:
    environ |= {"REDIS_URL": "redis://h/0", "SITEGENCTL_REDIS_PASSWORD_COMMAND": "sleep 60"}
    flags = {"timeout": limit} if source == "flag" else {}
    settings = load_settings(flags, environ if flags else environ | {source: limit})
    with pytest.raises(UsageProblem, match=rf"sleep took longer than 0.0{limit[0]} s"):
        settings.require_url("redis")


def test_url_keeps_its_own_password(environ: dict[str, str]) -> None:
    environ |= {"REDIS_URL": "redis://:own@h/0", "SITEGENCTL_REDIS_PASSWORD_COMMAND": "false"}
    assert load_settings({}, environ).require_url("redis") == "redis://:own@h/0"


@pytest.mark.parametrize("command", ['"echo \'"', "[]", "[1]", '""', "3"])
def test_invalid_password_command_is_refused(environ: dict[str, str], command: str) -> None:
    configure(environ, f'context = "p"\n[contexts.p]\nredis_password_command = {command}\n')
    with pytest.raises(UsageProblem, match=r"redis_password_command .context p.: "):
        load_settings({}, environ)


def test_password_file_and_command_are_mutually_exclusive(environ: dict[str, str]) -> None:
    environ |= {"SITEGENCTL_REDIS_PASSWORD_COMMAND": "x", "SITEGENCTL_REDIS_PASSWORD_FILE": "/x"}
    with pytest.raises(UsageProblem, match="mutually exclusive"):
        load_settings({}, environ)


@pytest.mark.parametrize(
    ("values", "is_warned"),
    [
        ('database_url = "postgresql://u:s3cret@h/d"', True),
        ('sentinel_password = "s3cret"', True),
        ('redis_url = "redis://h/0?password=s3cret"', True),
        ('database_url = "postgresql://u@h/d"', False),
    ],
)
def test_world_readable_settings_file_is_warned_about(environ: dict[str, str], values: str, is_warned: bool) -> None:
    configure(environ, f'context = "p"\n[contexts.p]\n{values}\n')
    path = Path(environ["SITEGENCTL_CONFIG"])
    path.chmod(0o644)
    warnings = load_settings({}, environ).warnings
    assert bool(warnings) == is_warned
    assert all(str(path) in warning and "s3cret" not in warning for warning in warnings)
    path.chmod(0o640)
    assert load_settings({}, environ).warnings == ()


def test_world_readable_secret_files_are_warned_about(environ: dict[str, str]) -> None:
    kept = secret(environ, "password", "s3cret")
    file = secret(environ, "crm.env", f"REDIS_URL=redis://:x@h/0\nSITEGENCTL_DATABASE_PASSWORD_FILE={kept}\n")
    environ["DATABASE_URL"] = "postgresql://u@h/d"
    assert load_settings({"env_file": file}, environ).warnings == ()
    for path in (kept, file):
        path.chmod(0o644)
        (warning,) = load_settings({"env_file": file}, environ).warnings
        assert str(path) in warning
        path.chmod(0o600)


def test_default_task_depends_on_the_backend(environ: dict[str, str]) -> None:
    assert load_settings({}, environ).task == "app.tasks.site_generation.generate_site_task"
    environ["SITEGENCTL_BACKEND"] = "rq"
    settings = load_settings({}, environ)
    assert (settings.backend, settings.task) == ("rq", "app.workers.site_generation_worker.generate_site_job")
    environ["SITEGENCTL_TASK"] = "crm.generate"
    assert load_settings({}, environ).task == "crm.generate"


def test_rq_key_prefix_from_rqs_own_variable(environ: dict[str, str]) -> None:
    environ["RQ_KEY_PREFIX"] = "crm"
    assert load_settings({}, environ).rq_key_prefix == "crm"
    environ["SITEGENCTL_RQ_KEY_PREFIX"] = "crm:2"
    assert load_settings({}, environ).rq_key_prefix == "crm:2"
    environ["SITEGENCTL_RQ_KEY_PREFIX"] = "crm %s"
    with pytest.raises(UsageProblem, match="is not a valid key prefix"):
        load_settings({}, environ)


def test_no_code_compares_the_name_of_the_backend() -> None:
    package = Path(sitegenctl.__file__).parent
    asking = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bbackend (==|!=)", path.read_text())
    }
    assert asking == set()
