"""What an S3 store's refusals mean to the user. No text of botocore's is passed on: some hold headers or URLs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as boto

from infra.errors import UserError

PRECONDITION = {"PreconditionFailed", "412"}
"""Codes of a condition that did not hold."""
CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
"""Codes of two writers who met: the one that gets it shall try again."""

_REFUSED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidSecurity",
}
_FORBIDDEN = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Raises UserError for what the user can mend about the store at `uri`, OSError for what else botocore raises."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(error, uri) from None
    except boto.BotoCoreError as error:
        raise _of_client(error, uri) from None


def code_of(error: Any) -> str:
    """The S3 error code of a ClientError; answers to HEAD have no body and give the HTTP status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _of_answer(error: Any, uri: str) -> Exception:
    code, bucket = code_of(error), urlsplit(uri).netloc
    if code == "NoSuchBucket":
        return UserError(f"{uri}: there is no bucket '{bucket}'; create it or correct the URI")
    if code == "InvalidBucketName":
        return UserError(f"{uri}: '{bucket}' is no name for a bucket; correct the URI")
    if code in _REFUSED:
        return UserError(
            f"{uri}: the store refuses the credentials ({code}); "
            "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose another AWS_PROFILE"
        )
    if code in _FORBIDDEN:
        return UserError(
            f"{uri}: the store does not allow {error.operation_name} with these credentials; "
            "grant it to them or use others (AWS_ACCESS_KEY_ID or AWS_PROFILE)"
        )
    if code == "RequestTimeTooSkewed":
        return UserError(f"{uri}: this machine's clock differs from the store's; set it right")
    if code in _ELSEWHERE:
        return UserError(f"{uri}: the bucket is in another region; set AWS_REGION to it")
    return OSError(f"{uri}: {error.operation_name} failed: {code or 'no error code'}")


def _of_client(error: Any, uri: str) -> Exception:
    name = type(error).__name__
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return UserError(f"{uri}: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError | boto.ConfigNotFound):
        return UserError(f"{uri}: the AWS profile cannot be read ({name}); correct AWS_PROFILE or ~/.aws/config")
    if isinstance(error, boto.CredentialRetrievalError | boto.TokenRetrievalError | boto.SSOError):
        return UserError(f"{uri}: the S3 credentials could not be fetched ({name}); log in again")
    if isinstance(error, boto.SSLError):
        return UserError(f"{uri}: the certificate of {_host(error)} is not trusted; set AWS_CA_BUNDLE or the address")
    if isinstance(error, boto.EndpointConnectionError | boto.ConnectTimeoutError | boto.ProxyConnectionError):
        return UserError(f"{uri}: nobody answers at {_host(error)}; start the store or correct AWS_ENDPOINT_URL")
    return OSError(f"{uri}: {name}")


def _host(error: Any) -> str:
    """Host and port that a connection error is about, without user and password."""
    address = urlsplit(str(error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or ""))
    return address.netloc.rpartition("@")[2] or "the store's address"
