"""The folder that production lives in: which bundle is live, what was answered, what people said about it.

    workspace.json    format and limits
    workspace.db      SQLite: the journal of deployments, events, feedback, the index of images
    bundles/<id>/     every bundle that was ever promoted and is still kept, whole and verified
    images/ab/<sha256>.<suffix>   images by content

`folder` opens it, `bundles` keeps classifiers, `deployment` says which of them answers, `events`, `feedback` and
`images` remember. Nothing here serves anything and nothing loads a network.
"""
