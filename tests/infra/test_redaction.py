"""Credentials are removed from text, and other text is not changed."""

import pytest
from sqlalchemy import make_url

from infra.redaction import redact

SECRET = [
    "postgresql://me:hunter2@host/db",
    "postgresql+psycopg://me:hun/ter2@host:5432/db",
    "postgresql://me@corp:hun/ter2@host/db",
    "mysql+pymysql://me:hunter2@host/db?charset=utf8",
    "postgresql:///db?password=hunter2&user=x",
    "https://me:hunter2@host:5000",
    "https://me:hun@ter2@host/path",
    "https://hunter2@host/path",
    "https://host/path?a=b&token=hunter2",
    "https://host/path?X-Amz-Expires=9&X-Amz-Signature=hunter2&X-Amz-Security-Token=hunter2",
    "https://host/path?sv=2026&sig=hunter2",
    *(
        f"https://host/path?a=b&{name}=hunter2"
        for name in ("access_token", "refresh_token", "client_secret", "sas_token", "apikey", "api_key", "api-key")
    ),
    "https://host/path?X-Amz-Credential=hunter2%2F20261128%2Fus-east-1",
    "https://host/path#access_token=hunter2",
    "postgresql:///db?sslmode=require&sslpassword=hunter2",
]


@pytest.mark.parametrize("uri", SECRET)
def test_users_and_passwords_are_removed(uri: str):
    if not uri.startswith("https"):  # SQLAlchemy reads it as a password
        assert "ter2" in f"{make_url(uri).password}{make_url(uri).query}"
    redacted = redact(f"the server at {uri} is unreachable")
    assert "ter2" not in redacted
    assert "hun" not in redacted
    assert redacted.startswith("the server at ")
    assert redacted.endswith(" is unreachable")
    assert redact(redacted) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/features/x@0123456789ab",
        "/data/features/x@0123456789ab",
        "models:/m@champion",
        "http://mlflow:5000/#/experiments/1",
        "http://host:8333/a@2x.jpg",
        "http://host/a.jpg?sigma=2&design=3",
        "http://host/a.jpg?tokens=3&secretary=x#signatures",
        "sqlite:////data/me@home/mlflow.db",
        "mail me@example.org about https://example.org",
        "uri: postgresql://db:5432/mlflow\nmodel: models:/m@champion\n",
        "postgresql://db:5432/mlflow and s3://b/x@0123456789ab",
    ],
)
def test_text_without_credentials_is_not_changed(text: str):
    assert redact(text) == text
