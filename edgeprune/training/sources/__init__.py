"""Where data come from: folders of images, labels of detectors, torch data sets and loaders."""
