"""Hostile and odd image files, made the same on every machine, each with the one verdict it must get.

`CASES` lists them; `write_corpus(folder)` puts them on disk. `odd` holds files that are unusual but whole, `hostile`
those that are damaged, forged, oversized or not images. Bytes of encoders may differ between versions of Pillow;
structure, sizes and verdicts do not.
"""
