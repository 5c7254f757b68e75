"""The work of `jobs.search`: opens what is searched with its model, and detects the regions of query photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import infra.tracking
from infra.errors import UserError
from infra.log import log
from infra.model_artifacts import download_folder
from infra.source_tree import program
from infra.tracking import Tracking, TrackingConfig
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import SilentServers
from pipelines.features.feature_set import FeatureSet
from pipelines.models.images import read_image
from pipelines.models.load import LoadedModel, is_registered, load_detector, load_model, require_fingerprint
from pipelines.search.feature_search import LARGE, FeatureSearch
from pipelines.search.gallery import Filter
from pipelines.search.hits import Explanation, Hit
from pipelines.search.index import SearchIndex
from pipelines.search.index_format import read_index_document


@dataclass(frozen=True)
class OpenSearch:
    """What is searched, with the model that is used for it."""

    model: LoadedModel
    tracking: Tracking | None
    device: str
    searched: SearchIndex | FeatureSearch
    candidates: int = 0
    """Items of an index that are scored exactly for a query."""
    where: Filter | None = None

    def search_photos(self, sentences: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best k photos for each sentence."""
        if isinstance(self.searched, SearchIndex):
            return self.searched.search_photos(sentences, k, self.candidates, self.where)
        return self.searched.search_photos(sentences, k)

    def search_captions(self, images: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best k captions for each image file. Raises UserError for one that cannot be used."""
        photos = detect_regions(self.tracking, self.model.uri, images, self.device)
        if isinstance(self.searched, SearchIndex):
            return self.searched.search_captions(photos, k, self.candidates, self.where)
        return self.searched.search_captions(photos, k)

    def explain(self, sentences: Sequence[str], results: Sequence[Sequence[Hit]]) -> list[list[Explanation]]:
        """Explains the photos that sentences found."""
        pairs = zip(sentences, results, strict=True)
        return [[self.searched.explain(sentence, hit) for hit in hits] for sentence, hits in pairs]


def open_index(
    uri: str, model: str | None, config: TrackingConfig, device: str, candidates: int, split: str | None
) -> OpenSearch:
    """Opens an index, by default with the model that it records. Raises UserError as `SearchIndex.open`."""
    store, document = read_index_document(uri)
    model_uri = model or document.model.uri
    tracking = _tracking(model_uri, config)
    loaded = load_model(tracking, model_uri, device)
    splits = {p.split for gallery in document.galleries.values() for p in gallery.partitions}
    if split is not None and split not in splits:
        raise UserError(f"{uri} has no items of split '{split}'; choose one of: {', '.join(sorted(splits))}")
    where = None if split is None else Filter(split)
    return OpenSearch(loaded, tracking, device, SearchIndex.of(store, document, loaded), candidates, where)


def open_features(uri: str, model: str, config: TrackingConfig, device: str, split: str) -> OpenSearch:
    """Opens a split of a feature set. Prints a hint if an index would be much faster."""
    features = FeatureSet.open(uri)
    photos = features.split(split)
    tracking = _tracking(model, config)
    loaded = load_model(tracking, model, device)
    require_fingerprint(loaded, features)
    if len(photos) > LARGE:
        log.info(
            f"all {len(photos)} photos are read and encoded for this search; `{program('index')}` builds an index that "
            "answers faster"
        )
    return OpenSearch(loaded, tracking, device, FeatureSearch(loaded.shan, features, photos))


def detect_regions(tracking: Tracking | None, model: str, images: Sequence[str], device: str) -> list[NDArray[Any]]:
    """Returns the region features R x F of image files, by the detector of a registered model.

    Raises UserError for an image that cannot be read or has no regions, and for a model without a detector.
    """
    with download_folder() as folder:
        detector = load_detector(tracking, model, folder)
        detector.require(device)
        found, servers = [], SilentServers()
        for image in images:
            try:
                # A path is not taken for base64 text, as a long name without a dot would be.
                is_path = "://" not in image and not image.startswith("data:")
                photo = read_image(Path(image) if is_path else image, servers)
            except PhotoError as error:
                raise UserError(f"--image: {error}; give an image file") from error
            (regions,) = detector([photo], device)
            if isinstance(regions, str):
                raise UserError(f"--image {image}: {regions}; give another image")
            found.append(regions.features_RF)
    return found


def _tracking(model: str, config: TrackingConfig) -> Tracking | None:
    return infra.tracking.require_store(config) if is_registered(model) else None
