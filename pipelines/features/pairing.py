"""The same photos in several feature sets, so that models for different detectors are compared on paired resamples."""

from collections.abc import Sequence

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split


def paired_splits(feature_sets: Sequence[FeatureSet], name: str, intersect: bool) -> list[Split]:
    """Returns split `name` of each feature set, with the same captioned photos and captions in the same order.

    Photos are paired by their keys and the texts of their captions. Raises UserError if a photo is not in all feature
    sets with the same captions. With `intersect`, such photos are left out.
    """
    splits = [features.captioned(name) for features in feature_sets]
    captions = [dict(zip(split.keys, split.captions_of_photos, strict=True)) for split in splits]
    common = [key for key in splits[0].keys if all(found.get(key) == captions[0][key] for found in captions)]
    if all(split.keys == common for split in splits):
        return splits
    shown = " and ".join(f"{len(split)} photos in {split.store.uri}" for split in splits)
    shown = f"split '{name}' has {shown}, {len(common)} of them in all with the same captions"
    different = sorted({key for found in captions for key in found} - set(common))
    if not common:
        raise UserError(f"{shown}; give feature sets of the same data set")
    if different and not intersect:
        raise UserError(f"{shown}, first other photo {different[0]}; add --intersect to compare on those {len(common)}")
    return [split.selecting(common) for split in splits]


def pairing_note(splits: Sequence[Split]) -> str:
    """Returns how many photos the feature sets of paired splits have in common; empty if none was left out."""
    common = splits[0].selected
    if common is None or all(split.photos_stored == len(common) for split in splits):
        return ""
    of = " and ".join(str(split.photos_stored) for split in splits)
    return f"on the {len(common)} photos that {'both' if len(splits) == 2 else 'all'} feature sets have, of {of}"
