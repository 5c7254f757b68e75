"""The detector of the paper in torch: Faster R-CNN with a ResNet-101 C4 backbone, trained on Visual Genome."""
