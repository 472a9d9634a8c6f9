"""Make a number and keep it: recipes, the runner, the folder of a run, results, many runs side by side."""
