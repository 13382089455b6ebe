"""The project's own rendered data set: characters, poses, scenes, a rasteriser and the writer of RHD's layout."""
