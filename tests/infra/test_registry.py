"""The registry on SQLite: which version is champion, which were, and URIs of versions."""

import pytest

from infra.errors import UserError
from infra.registry import (
    CHAMPION,
    HISTORY_TAG,
    MAX_HISTORY,
    champion_version,
    champions,
    find_version,
    set_champions,
)
from infra.tracking import Tracking

NAME = 'the "best" model'


@pytest.fixture
def registry(tracking: Tracking) -> Tracking:
    """A registered model with versions 1 to 4, without files."""
    client = tracking.client()
    client.create_registered_model(NAME)
    for _ in range(4):
        client.create_model_version(NAME, "file:///nowhere")
    return tracking


def test_a_model_without_an_alias_has_no_champion(registry: Tracking):
    for name in (NAME, "unknown"):
        assert champion_version(registry, name) is None
        assert champions(registry, name) == []


def test_the_history_ends_with_the_champion(registry: Tracking):
    set_champions(registry, NAME, [1, 3])
    assert champion_version(registry, NAME) == 3
    assert champions(registry, NAME) == [1, 3]


def test_an_interrupted_promotion_leaves_the_alias_in_charge(registry: Tracking):
    set_champions(registry, NAME, [1, 2, 3])
    registry.client().set_registered_model_alias(NAME, CHAMPION, "2")
    assert champions(registry, NAME) == [1, 2]


def test_an_alias_set_by_hand_is_appended(registry: Tracking):
    set_champions(registry, NAME, [1, 2])
    registry.client().set_registered_model_alias(NAME, CHAMPION, "4")
    assert champions(registry, NAME) == [1, 2, 4]


def test_deleted_versions_leave_the_history(registry: Tracking):
    set_champions(registry, NAME, [1, 2, 3])
    registry.client().delete_model_version(NAME, "2")
    assert champions(registry, NAME) == [1, 3]


def test_the_history_keeps_the_newest_versions(registry: Tracking):
    set_champions(registry, NAME, [*range(5, 5 + MAX_HISTORY), 1])
    stored = registry.client().get_registered_model(NAME).tags[HISTORY_TAG].split()
    assert len(stored) == MAX_HISTORY
    assert (stored[0], stored[-1]) == ("6", "1")


def test_numbers_and_aliases_name_versions(registry: Tracking):
    set_champions(registry, NAME, [3])
    assert int(find_version(registry, f"models:/{NAME}/2").version) == 2
    assert int(find_version(registry, f"models:/{NAME}@champion").version) == 3


@pytest.mark.parametrize("uri", [f"models:/{NAME}/9", f"models:/{NAME}@challenger", "models:/unknown/1"])
def test_a_missing_version_is_a_one_line_error(registry: Tracking, uri: str):
    with pytest.raises(UserError, match=r": no such model at .*; MLflow's Models page lists what exists$") as caught:
        find_version(registry, uri)
    assert str(caught.value).startswith(uri)
    assert "\n" not in str(caught.value)


def test_a_number_that_no_database_holds_is_a_one_line_error(registry: Tracking):
    with pytest.raises(UserError, match=r"^models:/m/9{20}: no such model; the largest version is 2147483647$"):
        find_version(registry, f"models:/m/{'9' * 20}")


def test_a_name_with_both_quotes_is_a_one_line_error(registry: Tracking):
    with pytest.raises(UserError, match=r"^MLflow cannot search for the model name a'b\"c, which has ' and \"; use"):
        champion_version(registry, "a'b\"c")


def test_a_history_edited_by_hand_is_named(registry: Tracking):
    set_champions(registry, NAME, [2])
    registry.client().set_registered_model_tag(NAME, HISTORY_TAG, "1 v2")
    with pytest.raises(UserError, match=r"^the tag champions of the model .* is '1 v2'; set it to the numbers"):
        champions(registry, NAME)


@pytest.mark.parametrize("uri", ["runs:/0123", f"models:/{NAME}", "models:/a/b/1", f"models:/{NAME}/x"])
def test_other_uris_name_no_version(registry: Tracking, uri: str):
    with pytest.raises(UserError, match="is not the URI of a version; give models:/<name>@champion or"):
        find_version(registry, uri)
