"""Translates botocore's exceptions: UserError for what the user can fix, StorageError for the rest.

Of the former, LocationError is about one bucket or object, and StoreAccessError concerns every object of the store.

botocore's own texts are not passed on, because some contain request headers or URLs with credentials.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto

from infra.errors import LocationError, StorageError, StoreAccessError

PRECONDITION = {"PreconditionFailed", "412"}
"""Error codes of a condition that does not hold."""
CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
"""Error codes of two concurrent writers: the one that receives it should retry."""

_BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidSecurity",
}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
_OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}

_RETRY = "re-run the command when the store responds"


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Raises UserError for what the user can fix about the store at `uri`, StorageError for the rest."""
    try:
        yield
    except boto.ClientError as error:
        raise _from_response(error, uri) from None
    except boto.BotoCoreError as error:
        raise _from_client(error, uri) from None


def code_of(error: Any) -> str:
    """Returns the S3 error code of a ClientError. A HEAD response has no body, so its code is the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _from_response(error: Any, uri: str) -> Exception:
    code, bucket = code_of(error), urlsplit(uri).netloc
    if code == "NoSuchBucket":
        return LocationError(f"{uri}: the bucket '{bucket}' does not exist; create it or correct the URI")
    if code == "InvalidBucketName":
        return LocationError(f"{uri}: '{bucket}' is not a bucket name; correct the URI")
    if code in _BAD_CREDENTIALS:
        return StoreAccessError(
            f"{uri}: the store rejects the credentials ({code}); "
            "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set another AWS_PROFILE"
        )
    if code in _FORBIDDEN:
        return LocationError(
            f"{uri}: these credentials lack permission for {error.operation_name}; "
            "grant it or use other credentials (AWS_ACCESS_KEY_ID or AWS_PROFILE)"
        )
    if code == "RequestTimeTooSkewed":
        return StoreAccessError(f"{uri}: this machine's clock differs from the store's; synchronise it")
    if code in _OTHER_REGION:
        return LocationError(f"{uri}: the bucket is in another region; set AWS_REGION to it")
    return StorageError(f"{uri}: {error.operation_name} failed: {code or 'no error code'}; {_RETRY}")


def _from_client(error: Any, uri: str) -> Exception:
    name = type(error).__name__
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return StoreAccessError(
            f"{uri}: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError | boto.ConfigNotFound):
        return StoreAccessError(f"{uri}: the AWS profile cannot be read ({name}); correct AWS_PROFILE or ~/.aws/config")
    if isinstance(error, boto.CredentialRetrievalError | boto.TokenRetrievalError | boto.SSOError):
        return StoreAccessError(f"{uri}: the S3 credentials could not be fetched ({name}); log in again")
    if isinstance(error, boto.SSLError):
        return StoreAccessError(
            f"{uri}: the certificate of {_host(error)} is not trusted; set AWS_CA_BUNDLE or correct AWS_ENDPOINT_URL"
        )
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return StorageError(f"{uri}: no S3 server responds at {_host(error)}; start it or correct AWS_ENDPOINT_URL")
    return StorageError(f"{uri}: the S3 server does not respond properly ({name}); {_RETRY}")


def _host(error: Any) -> str:
    """Returns the host and port of a connection error, without user and password."""
    address = urlsplit(str(error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or ""))
    return address.netloc.rpartition("@")[2] or "the store's address"
