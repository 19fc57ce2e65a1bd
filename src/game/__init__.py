"""Play mode and data set mode, in a window or as a film."""
