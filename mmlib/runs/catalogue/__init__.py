"""The recipes, one file a data set, to be edited: then the hash is another, and old runs are set aside."""
