"""Suffixes of the files that are read as archives, lists and tables."""

from __future__ import annotations

#: Suffixes of archives.
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
#: Of lists with a name a line.
PLAIN = (".txt", ".lst")
#: Of JSON lines.
JSON = (".jsonl", ".ndjson")
#: Of all lists and tables.
LISTS = (*PLAIN, ".csv", ".tsv", *JSON, ".parquet")


def is_archive(name: str) -> bool:
    """Whether a name is that of an archive."""
    return name.lower().endswith(ARCHIVES)


def is_list(name: str) -> bool:
    """Whether a name is that of a list or table."""
    return name.lower().endswith(LISTS)
