"""Who works at what: the store of points on disk, claims, workers."""
