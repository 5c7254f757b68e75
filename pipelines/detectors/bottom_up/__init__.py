"""The paper's detector: Faster R-CNN with a ResNet-101 C4 backbone, trained on Visual Genome, in plain torch."""
