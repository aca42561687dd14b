"""Bytes under keys: a few operations with stated atomicity, on the local disk and on S3.

A *key* is a relative POSIX path (``"history/000001.json"``). Keys with empty, ``.`` or ``..`` segments are
refused, so that nothing outside the root is ever touched.

========== ==========================================================================
operation  promise
========== ==========================================================================
get        the whole object, or NotFoundError
fetch      get with a tag of the content; nothing when the tag is still the same
put        readers see the old object or the new one, never a part
create     as put, but exactly one of several racing writers wins; the others get
           AlreadyExistsError. A writer whose answer was lost still learns that it won
put_file   put, from a local file, without holding it in memory
point      from then on a key reads as another key's object; readers see the former
           target or the new one, whole (on disk a symlink swapped by rename; S3, which
           has no links, copies the object, byte for byte)
local_file a readable local path of the object for the length of a ``with``
keys       the keys below a prefix, sorted
folders    the names of the folders directly in a prefix, sorted, whatever lies below them
delete     gone afterwards; deleting what is not there is no error
========== ==========================================================================

An error that may be over later (a server that is away, a full disk) is a StorageError. One that somebody has to mend
(refused credentials, no such bucket, a certificate that is not trusted) is a SettingsError that names the variable.
"""
