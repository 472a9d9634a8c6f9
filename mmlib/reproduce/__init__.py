"""Every number has a recipe: what to run, how it ran, what came out, and which claims hold.

Nothing here imports torch until something is trained, so that the command line answers at once.
"""
