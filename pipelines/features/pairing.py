"""The same photos in several feature sets, so that models for different detectors are compared on paired resamples."""

from collections.abc import Mapping, Sequence

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split


def paired_splits(feature_sets: Sequence[FeatureSet], name: str, intersect: bool) -> list[Split]:
    """Returns split `name` of each feature set, with the same captioned photos and captions in the same order.

    Photos are paired by their keys and the texts of their captions. Raises UserError if a photo is not in all feature
    sets with the same captions. With `intersect`, such photos are left out.
    """
    splits = [features.captioned(name) for features in feature_sets]
    common = _common(name, [(split.store.uri, _captions(split)) for split in splits], intersect)
    return splits if all(split.keys == common for split in splits) else [split.selecting(common) for split in splits]


def require_pairable(
    dataset: str, captions: Mapping[str, tuple[str, ...]], features: FeatureSet, name: str, intersect: bool
) -> None:
    """Raises UserError, before an extraction, if `paired_splits` would refuse its feature set together with another.

    `captions` are those of the captioned photos of split `name` of data set `dataset`, by key. Photos that the other
    feature set rejected are not compared, because the extraction may reject them as well.
    """
    rejected = {photo.key for photo in features.rejected}
    planned = {key: texts for key, texts in captions.items() if key not in rejected}
    split = features.captioned(name)
    _common(name, [(f"data set {dataset}", planned), (split.store.uri, _captions(split))], intersect)


def _captions(split: Split) -> dict[str, tuple[str, ...]]:
    return dict(zip(split.keys, split.captions_of_photos, strict=True))


def _common(name: str, captions: Sequence[tuple[str, Mapping[str, tuple[str, ...]]]], intersect: bool) -> list[str]:
    """Returns the keys that all have with the same captions, in the order of the first.

    `captions` has the name of each holder and its captions by key. Raises UserError as `paired_splits`.
    """
    (_, first), *_ = captions
    common = [key for key in first if all(found.get(key) == first[key] for _, found in captions)]
    shown = " and ".join(f"{len(found)} photos in {holder}" for holder, found in captions)
    shown = f"split '{name}' has {shown}, {len(common)} of them in all with the same captions"
    if not common:
        raise UserError(f"{shown}; give feature sets of the same data set")
    different = sorted({key for _, found in captions for key in found} - set(common))
    if different and not intersect:
        raise UserError(f"{shown}, first other photo {different[0]}; add --intersect to compare on those {len(common)}")
    return common


def pairing_note(splits: Sequence[Split]) -> str:
    """Returns how many photos the feature sets of paired splits have in common; empty if none was left out."""
    common = splits[0].selected
    if common is None or all(split.photos_stored == len(common) for split in splits):
        return ""
    of = " and ".join(str(split.photos_stored) for split in splits)
    return f"on the {len(common)} photos that {'both' if len(splits) == 2 else 'all'} feature sets have, of {of}"
