"""The structure of each image file format that Sortal opens: what a header says, and the smallest equal file.

Every member module holds `header(data)`, which reads sizes without decoding a pixel, and `strip(data)`, which checks
that the file is whole and returns only the parts that pixels need. Metadata never reaches a decoder.
"""
