"""The artifact store: immutable folders, named by the digest of their content and found by the key of the step that made them.

    <home>/<kind>/<digest>/          the files, and manifest.json: step, settings, code, libraries, time, host, duration
    <home>/index/<key>.json          the record that a step returned, by the key of the step; a second run with nothing changed reads it
    <home>/runs/<run>.json           the release and the settings of each run
    <home>/work/<key>/               unfinished work, from which a run that was killed resumes
    <home>/code/<step>.json          a cache of the modules that a step can load
    <home>/trash/                    damaged artifacts that were replaced; they are removed after a day

The home is `$VERTICALS_HOME`, else `.verticals` in the working folder. Records have no absolute paths, so that a store may be moved or copied.
"""

from tasks.contract.artifacts import home
from tasks.store.artifacts import find, intact, lineage, make, manifest, remember
from tasks.store.digests import content_digest, digest_of, file_digest
from tasks.store.keys import key

__all__ = ["content_digest", "digest_of", "file_digest", "find", "home", "intact", "key", "lineage", "make", "manifest", "remember"]
