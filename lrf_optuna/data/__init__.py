"""Images, labels and their splits; augmentation."""
