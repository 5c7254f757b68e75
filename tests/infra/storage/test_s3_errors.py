"""Error messages of an S3 store: each names the cause and the fix, and none contains a secret."""

import pytest
from botocore.exceptions import ClientError

from infra.errors import LocationError, StorageError, StoreAccessError, UserError
from infra.storage.s3 import S3Store
from infra.storage.s3_errors import explained
from tests.support.servers import S3Server, aws_environment


def error_of(s3_store: S3Store, environment: dict[str, str]) -> str:
    """Returns the error message under these variables, after checking that every operation raises the same one."""
    messages = set()
    with aws_environment(environment):
        for call in (
            lambda: s3_store.objects(),
            lambda: s3_store.read("x"),
            lambda: s3_store.put_if_absent("x", b"1"),
            lambda: s3_store.incomplete_uploads(),
        ):
            with pytest.raises(UserError) as caught:
                call()
            messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    assert message.startswith(s3_store.uri)
    assert not any(environment.get(name, "not set") in message for name in ("AWS_SECRET_ACCESS_KEY", "secret"))
    return message


def test_wrong_credentials(s3_store: S3Store, s3_server: S3Server):
    right = s3_server.environment()
    wrong = error_of(s3_store, {**right, "AWS_SECRET_ACCESS_KEY": "a-secret-of-another"})
    assert "rejects the credentials (SignatureDoesNotMatch); correct AWS_ACCESS_KEY_ID" in wrong
    unknown = error_of(s3_store, {**right, "AWS_ACCESS_KEY_ID": "nobody"})
    assert "rejects the credentials (InvalidAccessKeyId)" in unknown


def test_no_credentials(s3_store: S3Store, s3_server: S3Server):
    right = s3_server.environment()
    none = {name: value for name, value in right.items() if "KEY" not in name}
    assert "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error_of(s3_store, none)
    half = {**none, "AWS_ACCESS_KEY_ID": right["AWS_ACCESS_KEY_ID"]}
    assert "no S3 credentials" in error_of(s3_store, half)
    assert "the AWS profile cannot be read" in error_of(s3_store, {**none, "AWS_PROFILE": "nobody's"})


def test_missing_permission(s3_store: S3Store, s3_server: S3Server):
    with aws_environment(s3_server.environment(reader=True)):
        assert s3_store.objects() == {}
        with pytest.raises(UserError, match="these credentials lack permission for PutObject; grant"):
            s3_store.put_if_absent("x", b"1")


def test_a_missing_bucket(s3_server: S3Server):
    message = error_of(S3Store("no-such-bucket", "p"), s3_server.environment())
    assert "the bucket 'no-such-bucket' does not exist; create it or correct the URI" in message


@pytest.mark.parametrize(
    ("code", "is_location"),
    [
        ("NoSuchBucket", True),
        ("AccessDenied", True),
        ("PermanentRedirect", True),
        ("ExpiredToken", False),
        ("RequestTimeTooSkewed", False),
    ],
)
def test_errors_of_one_location_have_their_own_type(code: str, is_location: bool):
    """With the others, no object of the store can be read."""
    with pytest.raises(UserError, match=r"^s3://b/p: ") as caught, explained("s3://b/p"):
        raise ClientError({"Error": {"Code": code}}, "GetObject")
    assert type(caught.value) is (LocationError if is_location else StoreAccessError)


def test_no_server_responds(s3_store: S3Store, s3_server: S3Server, short_deadline: None):
    address = "http://me:pass-word@127.0.0.1:1"
    with (
        aws_environment({**s3_server.environment(), "AWS_ENDPOINT_URL": address}),
        pytest.raises(StorageError) as caught,  # an outage, which trainings and sweeps wait for
    ):
        s3_store.objects()
    message = str(caught.value)
    assert "no S3 server responds at 127.0.0.1:1; start it or correct AWS_ENDPOINT_URL" in message
    assert "pass-word" not in message


def test_an_invalid_session_token_is_not_printed(s3_store: S3Store, s3_server: S3Server, short_deadline: None):
    with (
        aws_environment({**s3_server.environment(), "AWS_SESSION_TOKEN": "a-secret\ntoken"}),
        pytest.raises(StorageError, match=s3_store.uri) as caught,
    ):
        s3_store.objects()
    assert "secret" not in str(caught.value)
