"""Published layouts of data sets on disk -> records: a caption and the file of its picture."""
