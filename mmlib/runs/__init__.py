"""Make a number and keep it: recipes, the runner, the folder of a run, results, many runs side by side.

Nothing here imports torch until something is trained, so that the command line answers at once.
"""
