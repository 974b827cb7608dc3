"""The page to try a classifier at `/`, and the description to be read at `/docs`: files of this folder."""
