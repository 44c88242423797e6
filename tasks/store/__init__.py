"""The artifact store: immutable folders named by the digest of their content, found again by what they were made from.

    <home>/<kind>/<digest>/          the files, and manifest.json: step, settings, code, libraries, when, where, how long
    <home>/index/<key>.json          key of a step -> record: a second run with nothing changed looks here
    <home>/work/<key>/               unfinished work, kept so that a run that was killed resumes
    <home>/code/<step>.json          the modules that a step was found to load
    <home>/trash/                    damaged artifacts that were replaced, removed after a day

The home is `$VERTICALS_HOME`, else `.verticals` beside the code. Records hold no absolute paths: a store may be moved or copied.
"""

from tasks.contract.artifacts import home
from tasks.store.artifacts import find, intact, lineage, make, manifest, remember
from tasks.store.digests import content_digest, digest_of, file_digest
from tasks.store.keys import key

__all__ = ["content_digest", "digest_of", "file_digest", "find", "home", "intact", "key", "lineage", "make", "manifest", "remember"]
