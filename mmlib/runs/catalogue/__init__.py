"""The recipes, one file a data set. Numbers there are meant to be edited.

A recipe that changes gets another hash, and its old runs are set aside.
"""
