"""Repair of a data set that can be taken back: a plan that people edit, a journal, moves that lose nothing, undo.

`plan` is the file, `suggest` makes one from an audit's issues, `resolve` checks one against the images as they are,
`folders` and `rows` turn it into steps, `journal` keeps them on the disk, `apply` and `undo` carry them out. `fix` puts
these together; nothing else needs to be known to use it.
"""
