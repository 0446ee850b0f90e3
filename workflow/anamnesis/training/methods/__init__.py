"""One folder for each training method (``training.slices``)."""
