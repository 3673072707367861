"""Working on a game and running it: a new project, and reload on save. No game needs this to run."""
