"""Everything that is drawn: the canvas and its fonts, plots, mosaics, thumbnails."""
