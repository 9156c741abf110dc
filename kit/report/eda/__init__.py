"""The page of a data set: what there is, what it looks like, what is odd about it."""
